"""`understudy demo`: the whole story on real servers, with a report page."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from understudy import installed
from understudy.cli.output import Json, on_terminal, print_json
from understudy.errors import VerdictError


def command(
    keys: Annotated[int, typer.Option(min=1, max=1_000_000, help="Fill the cluster with so many keys.")] = 40_000,
    buyers: Annotated[int, typer.Option(min=10, max=5000, help="Sell to so many; a third as many seats.")] = 360,
    out_dir: Annotated[
        Path, typer.Option(help="Where the set and the report pages go; an earlier demo's are replaced.")
    ] = Path("understudy-demo"),
    as_json: Json = False,
) -> None:
    """Show it all: a sale outlives the death of its server; then all is backed up, lost, restored, compared, rehearsed.

    A cluster and two gateways are started for this on free ports and are gone afterwards; no server of yours is
    touched. Leaves the set and a report page. Exits with 15 where anything was not as it should be, or is not known.

    \b
    Examples:
      understudy demo
      understudy demo --keys 200000 --out-dir /tmp/demo
    """
    try:
        from understudy.demo.show import show
        from understudy.waitingroom import tokens  # noqa: F401 - the gateways need it
    except ImportError as error:
        raise installed.missing_extra("showing the demo", error, "demo") from error
    from understudy import progress
    from understudy.demo.tell import Mute, for_output

    teller = Mute() if as_json else for_output(sys.stdout, colour=on_terminal())
    shown = show(out_dir, keys, buyers, progress.for_terminal(quiet=as_json), teller)
    verdict = shown.outcome.verdict
    if as_json:
        print_json(shown.as_data())
        if verdict.word != "passed":
            raise typer.Exit(VerdictError.exit_code)
    elif verdict.word != "passed":
        raise VerdictError("showing the demo", f"the verdict is {verdict.word}", f"Read {shown.report}.")
