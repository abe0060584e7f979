"""Start and end a lab's servers: in containers where it has an image, else as processes, as Envoy always is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from understudy.lab import containers, server
from understudy.lab.containers import Box
from understudy.lab.server import LabNode

Launch = tuple[LabNode, Sequence[str]]
_IN_CONTAINERS = {"valkey", "sentinel"}


def start(launches: Sequence[Launch], box: Box | None, record: Callable[[list[LabNode]], None]) -> None:
    """Start servers side by side; `record` is told each before it does anything.

    Raises:
        UnderstudyError: a container could not be made or started.
    """
    boxed = [one for one in launches if box and one[0].kind in _IN_CONTAINERS]
    if box and boxed:
        containers.start(boxed, box, record)
    if others := [one for one in launches if one not in boxed]:
        server.start(others, record)


def kill(nodes: Sequence[LabNode]) -> None:
    """End servers at once and wait until they are gone. A container stays, to be started again."""
    containers.kill(nodes)
    server.stop(nodes)


def stop(nodes: Sequence[LabNode], gently_within_s: float = 0) -> None:
    """End servers for good: at once, or first asking them and waiting so long (seconds). Containers are removed.

    Raises:
        UnderstudyError: one would not go.
    """
    containers.stop(nodes, gently_within_s)
    server.stop(nodes, gently_within_s)
