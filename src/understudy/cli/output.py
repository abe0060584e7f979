"""How commands print: tables, data as JSON, errors; colour on a terminal only."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from understudy.errors import UnderstudyError

_wanted = {"json": False}
_MOST_ITEMS = 20


def _remember(value: bool) -> bool:
    _wanted["json"] = value
    return value


def errors_as_data() -> None:
    """Print errors as data too, for a command that knows only now that its output is."""
    _wanted["json"] = True


Json = Annotated[
    bool,
    typer.Option("--json", help="Print data instead of text; errors too.", callback=_remember, is_eager=True),
]
"""The `--json` flag of every command whose output is data: `def command(..., as_json: Json = False)`."""


def on_terminal() -> bool:
    """Return whether a person looks at stdout and wants colour."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_json(data: Any) -> None:
    """Print data as one JSON document; an error that follows is told on stderr only."""
    _wanted["json"] = False
    print(json.dumps(data, indent=2, ensure_ascii=False))


def tell_overruled(file: Path, names: Sequence[str]) -> None:
    """Say for which names the environment wins over a file of settings: the names, never the values."""
    if names:
        print(f"Warning: set in the environment, which wins over {file}: {', '.join(names)}", file=sys.stderr)


class _Unread:
    """A stream whose reader may go away: what is written then goes nowhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._to_nowhere()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._to_nowhere()

    def _to_nowhere(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def read_or_not() -> Iterator[None]:
    """Go on with what is being done, and end with its own code, when nobody reads what is said (`… | head`)."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Unread(stream) for stream in streams)
    try:
        yield
        sys.stdout.flush()
    finally:
        sys.stdout, sys.stderr = streams


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Print rows under a header, aligned; columns named in `right` to the right. On a terminal with colour."""
    if on_terminal():
        _print_rich(header, rows, right)
        return
    lines = [tuple(header), *map(tuple, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for line in lines:
        cells = zip(header, line, widths, strict=True)
        text = "  ".join(cell.rjust(width) if name in right else cell.ljust(width) for name, cell, width in cells)
        print(text.rstrip())


def _print_rich(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"running": "green", "dead": "red", "paused": "yellow", "silent": "yellow", "primary": "bold"}
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in header:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell, style=colours.get(cell, "")) for cell in row))
    Console().print(table)


def print_error(error: UnderstudyError) -> None:
    """Print what went wrong, why, and what to try; as data on stdout where `--json` was given."""
    if _wanted["json"]:
        print_json(error.as_data())
    print(f"Error: {error.doing}: {error.why}", file=sys.stderr)
    for item in error.items[:_MOST_ITEMS]:
        print(f"  {item}", file=sys.stderr)
    if more := error.of - len(error.items[:_MOST_ITEMS]):
        where = "lists them" if error.of == len(error.items) else f"names {len(error.items):,} of {error.of:,}"
        print(f"  … and {more:,} more (--json {where})", file=sys.stderr)
    if error.hint:
        print(f"Try: {error.hint}", file=sys.stderr)


def print_bug(error: BaseException) -> None:
    """Print an error that we did not expect; the traceback with UNDERSTUDY_DEBUG=1."""
    if os.environ.get("UNDERSTUDY_DEBUG"):
        import traceback

        traceback.print_exception(error)
    text = f"{type(error).__name__}: {error}"
    if _wanted["json"]:
        print_json(
            {
                "error": "Bug",
                "doing": "",
                "why": text,
                "try": "",
                "items": [],
                "of": 0,
                "retryable": False,
                "exit_code": 1,
            }
        )
    print(f"Error: this is a bug in understudy: {text}", file=sys.stderr)
    if not os.environ.get("UNDERSTUDY_DEBUG"):
        print("Try: the same with UNDERSTUDY_DEBUG=1, and report what it prints.", file=sys.stderr)
