"""The `understudy` command: its verbs, and how it ends.

A verb is one file in this folder with a function `command`; to add one, import the file here and put it into
`VERBS`. Such a file imports typer and `cli.output` only, and everything else inside its function: every verb is
imported whichever is typed, and that must stay fast.
"""

# ruff: noqa: E402 - what is imported takes a moment, and Ctrl-C may come in it

from __future__ import annotations

import signal
import sys
import threading


def _interrupted(*_: object) -> None:
    print("\nInterrupted.", file=sys.stderr)
    sys.exit(128 + signal.SIGINT)


_ours = threading.current_thread() is threading.main_thread() and (
    signal.getsignal(signal.SIGINT) is signal.default_int_handler
)
if _ours:
    signal.signal(signal.SIGINT, _interrupted)

import io
import os
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from understudy import __version__
from understudy.cli import (
    archive,
    backup,
    check,
    clean,
    demo,
    down,
    drill,
    fault,
    health_check,
    inspect,
    list,  # noqa: A004
    logs,
    probe,
    prune,
    rehearse,
    restore,
    schedule,
    status,
    up,
    upload,
    verify,
    waitingroom,
)
from understudy.cli.output import print_bug, print_error
from understudy.errors import UnderstudyError

_ELSEWHERE = {
    **dict.fromkeys(("--password", "--pass", "--user", "--username"), "Set REDIS_PASSWORD (and REDIS_USERNAME)"),
    **dict.fromkeys(("--url", "--uri", "--host", "--port", "--nodes"), "Set REDIS_URL, or REDIS_NODES=host:port"),
}
_PIPE_CLOSED = 128 + signal.SIGPIPE

VERBS = (
    demo, up, down, status, logs, clean, fault, drill, backup, archive, upload, restore, list, verify, check, inspect,
    prune, schedule, health_check, rehearse, probe, waitingroom,
)  # fmt: skip


class _Verbs(TyperGroup):
    """The verbs; what a choice says of a wrong word is said without the words of the library."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            if isinstance(message := getattr(error, "message", None), str):
                error.message = message.removeprefix("Value error, ")  # type: ignore[attr-defined]
            raise


app = typer.Typer(
    name="understudy",
    cls=_Verbs,
    help="Run a Valkey or Redis stack as in production, break it, back it up, and prove that it restores.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for verb in VERBS:
    app.command(verb.__name__.rpartition(".")[2].replace("_", "-"))(verb.command)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"understudy {__version__}")
        raise typer.Exit


if _ours:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@app.callback()
def _root(
    _: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)] = False,
) -> None:
    pass


def _terminated(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)  # so that what is half done is cleaned up, as after Ctrl-C


def _fill_closed_streams() -> None:
    """Give standard streams that were closed for us (`>&-`) somewhere to go."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - for as long as we run


def main() -> NoReturn:
    """Run what was typed and exit with the code that DESIGN.md gives it."""
    _fill_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows ASCII only shows the rest as it can
    os.umask(0o077)  # sets and their archives hold everybody's data: what we make is for its owner
    signal.signal(signal.SIGTERM, _terminated)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # a terminal that closes; under nohup it stays ignored
        signal.signal(signal.SIGHUP, _terminated)
    code = _run()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain when it flushes once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _PIPE_CLOSED
    sys.exit(code)


def _run() -> int:
    try:
        app(prog_name="understudy")
    except UnderstudyError as error:
        print_error(error)
        return error.exit_code
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
        if isinstance(end.__context__, BrokenPipeError):
            return _PIPE_CLOSED
        option = getattr(end.__context__, "option_name", None)
        if code == 2 and option in _ELSEWHERE:
            print(f"Try: {_ELSEWHERE[option]}. Not as an option: `ps` and the history show those.", file=sys.stderr)
        if code == 128 + signal.SIGINT:
            print("\nInterrupted.", file=sys.stderr)
        if code in (128 + signal.SIGTERM, 128 + signal.SIGHUP):
            print("Terminated.", file=sys.stderr)
        return code
    except KeyboardInterrupt:  # before typer looked
        print("\nInterrupted.", file=sys.stderr)
        return 128 + signal.SIGINT
    except Exception as error:  # noqa: BLE001 - the last line of defence
        print_bug(error)
        return 1
    return 0
