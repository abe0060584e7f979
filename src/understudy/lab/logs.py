"""What the servers of a lab wrote, together and in the order in which it is read."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from understudy.errors import NotFoundError
from understudy.lab import state

_POLL_S = 0.2


class Line(NamedTuple):
    """One line of a log and the node that wrote it; `lab` is what understudy itself did."""

    node: str
    text: str


def files(name: str, node: str | None = None) -> list[Path]:
    """Return the logs of a lab, or of one node of it; they are kept until `clean`.

    Raises:
        NotFoundError: there is no such lab, or no such node.
    """
    found = sorted((state.directory(name) / "logs").glob("*.log"))
    if not found:
        known = ", ".join(state.names())
        raise NotFoundError(
            f"reading the logs of the lab {name!r}",
            "there are none",
            f"Labs: {known}." if known else "Start one: understudy up cluster",
        )
    if node is None:
        return found
    chosen = [path for path in found if path.stem in {node, _named(name, node)}]
    if not chosen:
        nodes = ", ".join(path.stem for path in found)
        raise NotFoundError(
            f"reading the log of {node!r} in the lab {name}", "there is no such node", f"One of: {nodes}."
        )
    return chosen


def _named(name: str, port: str) -> str:
    """Return the name of the node on a port; empty where there is none."""
    record = state.read(name)
    nodes = record.nodes if record else ()
    return next((node.name for node in nodes if str(node.address.port) == port), "")


def last(paths: list[Path], lines: int) -> Iterator[Line]:
    """Return the last lines of each log."""
    for path in paths:
        with path.open(errors="replace") as file:
            for text in deque(file, maxlen=lines) if lines else ():
                yield Line(path.stem, text.rstrip("\n"))


def follow(paths: list[Path]) -> Iterator[Line]:
    """Return every line that is written from now on, for ever; whoever asked ends it."""
    positions = {path: path.stat().st_size for path in paths}
    while True:
        wrote = False
        for path, position in positions.items():
            try:
                with path.open("rb") as file:
                    # A log that got shorter was begun anew.
                    file.seek(position if position <= path.stat().st_size else 0)
                    for raw in file:
                        if not raw.endswith(b"\n"):
                            break  # half a line; the rest comes
                        position_after = file.seek(0, 1)
                        yield Line(path.stem, raw.decode(errors="replace").rstrip("\n"))
                        positions[path] = position_after
                        wrote = True
            except FileNotFoundError:
                positions[path] = 0
        if not wrote:
            time.sleep(_POLL_S)
