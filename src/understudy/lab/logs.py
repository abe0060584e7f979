"""What the servers of a lab wrote, together and in the order in which it is read."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from understudy.errors import NotFoundError, UnderstudyError
from understudy.lab import state
from understudy.lab.named import find
from understudy.lab.server import LabNode

_POLL_S = 0.2


class Line(NamedTuple):
    """One line of a log and the node that wrote it; `lab` is what understudy itself did."""

    node: str
    text: str


@contextlib.contextmanager
def collected(name: str, node: str | None = None, *, lines: int, follow: bool) -> Iterator[list[Path]]:
    """Give the logs of a lab, or of one node of it, as files; they are kept until `clean`.

    What containers wrote is asked of Docker, so many last lines, into files for as long as this lasts; to be followed
    it is asked for on and on.

    Raises:
        NotFoundError: there is no such lab, or no such node.
    """
    with contextlib.ExitStack() as stack:
        boxed = {one.name: one for one in _nodes(name) if one.container and one.state != "dead"}
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="understudy-logs-"))) if boxed else None
        for one in boxed.values():
            file = stack.enter_context((Path(str(place)) / f"{one.name}.log").open("ab"))
            words = ["docker", "logs", str(one.container)]
            if follow:
                stack.callback(_end, subprocess.Popen([*words, "--tail", "0", "-f"], stdout=file, stderr=file))
            subprocess.run([*words, "--tail", str(lines)], stdout=file, stderr=file, check=False)
        found = [path for path in files(state.directory(name) / "logs") if path.stem not in boxed]
        yield _chosen(name, node, sorted([*found, *(files(place) if place else [])], key=lambda path: path.name))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _nodes(name: str) -> tuple[LabNode, ...]:
    try:
        return find(name).nodes
    except UnderstudyError:  # only its logs are left, or not even those
        return ()


def files(directory: Path) -> list[Path]:
    """Return the logs in a directory."""
    return sorted(directory.glob("*.log"))


def _chosen(name: str, node: str | None, found: list[Path]) -> list[Path]:
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
    return next((node.name for node in _nodes(name) if str(node.address.port) == port), "")


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
