"""The engine `replica`: a set from frozen copies. `auto` takes it where it can be had, and says why where not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from understudy import installed
from understudy.backup.component import Taken
from understudy.backup.frozen import Frozen, read_frozen
from understudy.backup.replica.strays import Strays
from understudy.errors import RefusedError, UnderstudyError, UsageError
from understudy.progress import Progress
from understudy.valkey.router import Router

REPLICA, AUTO = "replica", "auto"


def take(
    router: Router, plan: Mapping[str, Any], work: Path, into: Path, progress: Progress, scan: Callable[[], Taken]
) -> Taken:
    """Take the keys of every primary from copies that stand still, at one instant unless `plan["pause"]` is off.

    With the engine `auto` the set is taken by `scan` where no cut could be made; nothing was written by then.

    Raises:
        RefusedError, NotAuthorisedError: copies cannot be made.
        IncompleteError: the source did not come to rest.
    """
    with contextlib.ExitStack() as stack:
        try:
            made, copies = stack.enter_context(_made(router, plan, work, progress))
        except UnderstudyError as error:
            if plan["engine"] != AUTO:
                raise
            if "rdb" in plan.get("formats", ()):
                raise RefusedError(
                    error.doing, f"{error.why}; and RDB files come from copies only",
                    "Mend that, or take lines, which the engine scan reads: --format jsonl (BACKUP_FORMAT).",
                    error.items,
                ) from error  # fmt: skip
            progress.say(f"Engine scan, not replica: {error.why}.")
            reason = error.why
        else:
            return _read(made, copies, router, plan, work, into, progress)
    taken = scan()
    return Taken(taken.parts, taken.files, {**taken.metadata, "not_replica": reason}, taken.requires)


@contextlib.contextmanager
def _made(
    router: Router, plan: Mapping[str, Any], work: Path, progress: Progress
) -> Iterator[tuple[Any, list[Frozen]]]:
    try:
        from understudy.backup.replica.cut import cut  # noqa: PLC0415 - the lab, whose server it needs, is an extra
        from understudy.backup.replica.fitness import check  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            "making copies of the primaries", "the lab is not installed, and its server with it",
            f"{installed.how_to_add('lab')}, or use --engine scan.",
        ) from error  # fmt: skip
    check(router, work, progress, pause=plan["pause"])
    strays = Strays(router)
    with cut(router, work, progress, pause=plan["pause"], in_sync=strays.look) as made:
        for copy in made.copies:
            copy.server.give_way()
        yield (
            made,
            [
                replace(copy, alone=strays.none_at(shard.primary.address, shard.primary.slots))
                for copy, shard in zip(made.frozen, made.shards, strict=True)
            ],
        )


def _read(
    made: Any,
    copies: Sequence[Frozen],
    router: Router,
    plan: Mapping[str, Any],
    work: Path,
    into: Path,
    progress: Progress,
) -> Taken:
    name, version = made.server
    account = {
        "engine": REPLICA,
        "mode": str(router.target.mode),
        "server": {"name": name, "version": version},
        "cut": made.as_data(),
    }
    return read_frozen(copies, plan, work, into, progress, account)
