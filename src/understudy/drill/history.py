"""The record of a drill: every operation, every event, and what was there at the end; a file that can be judged again.

The file is gzip of JSON lines, each an array whose first word says what it is:

    ["drill", {"version": 1, "zero": "2026-11-21T03:34:14.000000Z", ...}]
    ["op", client, part, kind, key, value, shard, due_us, begun_us, ended_us, outcome, error, moved, asked, attempts]
    ["event", at_us, kind, node, shard, text]
    ["final", key, value]             the value of a string, the list of a list, null where nothing was there
    ["end"]                           the last line: without it a whole member can be missing

Without any "final" line, and with `"final": false` in a last "drill" line, nobody read what was there.
"""

from __future__ import annotations

import gzip
import shlex
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from understudy.drill.operation import Kind, Operation, Outcome, Part
from understudy.errors import IntegrityError, NotFoundError, UnreachableError, UsageError

VERSION = 1
_END = ["end"]
_NEEDED = {"version": int, "zero": str, "ended_us": int, "shards": int, "clients": dict, "final": bool}
_OTHERS = {"budget": dict, "said": dict, "judged": list, "notes": list, "wrong": list, "rate": int | float}
Final = dict[str, str | list[str] | None]


@dataclass(frozen=True)
class Event:
    """Something that happened to the servers, `at_us` microseconds since the drill's zero.

    Kinds: `fault` (its injection begins), `applied`, `undone`; `promoted` and `demoted` (a node began or ceased to
    call itself primary), `switched` (the first sentinel named another primary), `gone` and `back` (it stopped or began
    answering). `shard` counts from 0; None: all, or none.
    """

    at_us: int
    kind: str
    node: str
    shard: int | None
    text: str


@dataclass
class History:
    """Everything that the checker needs. `final` is None where the servers could not be read at the end.

    `header` holds at least: `zero` (wall clock at 0 µs, ISO 8601 UTC), `ended_us` (when the last operation was due),
    `shards` (how many), `clients` (name → what it is, in words). `rate` is operations a second, for each client.
    """

    header: dict[str, Any]
    operations: list[Operation] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    final: Final | None = None

    @property
    def fault_us(self) -> int | None:
        """Return when the first fault began; None where there was none."""
        return min((event.at_us for event in self.events if event.kind == "fault"), default=None)

    @property
    def ended_us(self) -> int:
        """Return when the last operation was due."""
        return int(self.header["ended_us"])


def operation_line(one: Operation) -> bytes:
    """Return an operation as a line of the file."""
    fields = (
        "op", one.client, one.part, one.kind, one.key, one.value, one.shard, one.due_us, one.begun_us, one.ended_us,
        one.outcome, one.error, one.moved, one.asked, one.attempts,
    )  # fmt: skip
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def rest_lines(history: History) -> Iterator[bytes]:
    """Return the lines of everything but the operations."""
    header = {"version": VERSION, **history.header, "final": history.final is not None}
    yield orjson.dumps(("drill", header), option=orjson.OPT_APPEND_NEWLINE)
    for event in history.events:
        line = ("event", event.at_us, event.kind, event.node, event.shard, event.text)
        yield orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    for key, value in (history.final or {}).items():
        yield orjson.dumps(("final", key, value), option=orjson.OPT_APPEND_NEWLINE)


def write(path: Path, history: History) -> None:
    """Write a history, all of it or nothing.

    Raises:
        UnreachableError: it cannot be written there.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        with gzip.GzipFile(temporary, "wb", compresslevel=1, mtime=0) as packed:
            packed.writelines(rest_lines(history))
            packed.writelines(map(operation_line, history.operations))
            packed.write(orjson.dumps(_END, option=orjson.OPT_APPEND_NEWLINE))
        temporary.rename(path)
    except OSError as error:
        raise UnreachableError(
            f"writing the history {path}", error.strerror or str(error), "Name another --history."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> History:
    """Read a history: a file, or a directory that holds one.

    Raises:
        NotFoundError: there is no such file, or no history in the directory.
        UsageError: the directory holds several.
        IntegrityError: it is no history, is damaged, or is of a newer version.
    """
    if path.is_dir():
        path = _only(path)
    history = History({})
    final: Final = {}
    ended = False
    try:
        with gzip.open(path) as lines:
            for line in lines:
                words = orjson.loads(line)
                ended = words == _END
                if not ended:
                    _take(history, final, words)
    except FileNotFoundError as error:
        raise NotFoundError(f"reading the history {path}", "there is no such file") from error
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError, IndexError) as error:
        raise IntegrityError(f"reading the history {path}", f"it is damaged, or no history ({error})") from error
    header = history.header
    if (version := header.get("version", VERSION)) != VERSION:
        raise IntegrityError(f"reading the history {path}", f"its version is {version}, and {VERSION} is known")
    if not ended or _NEEDED.keys() - header.keys():
        raise IntegrityError(f"reading the history {path}", "it is empty, breaks off, or its header is not complete")
    for name, kind in {**_NEEDED, **_OTHERS}.items():
        if name in header and not isinstance(header[name], kind):
            raise IntegrityError(f"reading the history {path}", f"{name!r} in its header cannot be {header[name]!r}")
    if header["final"]:
        history.final = final
    return history


def _only(folder: Path) -> Path:
    found = sorted(folder.glob("*.history.gz"))
    if not found:
        raise NotFoundError(f"reading the history {folder}", "it is a directory without a *.history.gz")
    if len(found) > 1:
        each = " ".join(f"--check {shlex.quote(str(one))}" for one in found)
        why = f"it is a directory with {len(found)} of them"
        raise UsageError(f"reading the history {folder}", why, f"understudy drill {each}")
    return found[0]


def read_operations(part: Path) -> list[Operation]:
    """Read a file of operations, as one writer left it."""
    history = History({})
    with gzip.open(part) as lines:
        for line in lines:
            _take(history, {}, orjson.loads(line))
    return history.operations


def _take(history: History, final: Final, line: list[Any]) -> None:
    match line[0]:
        case "op":
            client, part, kind, key, value, shard, due, begun, ended, outcome, *how = line[1:]
            if not all(isinstance(number, int) for number in (shard, due, begun, ended, *how[1:])):
                raise ValueError(f"a number is missing in {line}")
            history.operations.append(
                Operation(client, Part(part), Kind(kind), key, value, shard, due, begun, ended, Outcome(outcome), *how)
            )
        case "event":
            history.events.append(Event(int(line[1]), *line[2:]))
        case "final":
            final[line[1]] = line[2]
        case "drill":
            history.header |= line[1]
        case word:
            raise ValueError(f"a line begins with {word!r}")
