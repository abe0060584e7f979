"""A lab's servers in containers: created, started, ended and found again by their labels.

A container mounts its node's directory at the same path and runs as the user that started the lab, so that a layout's
configuration is the same as for a process and nothing of another owner is left behind. On the host's network its
server listens on 127.0.0.1. Bridged, one more container holds the lab's ports, published on 127.0.0.1, and every node
shares its network: 127.0.0.1 and a port mean the same server inside and outside, whatever the version.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from understudy.errors import RefusedError, ServerSaidError, UnderstudyError
from understudy.lab import docker
from understudy.lab.docker import Container
from understudy.lab.server import LabNode

HOME_LABEL = "understudy.home"
_NETWORK = "network"


@dataclass(frozen=True)
class Box:
    """What the containers of one lab share.

    `program` is the server in the image, `ports` what bridged ones publish, `spare` a port that none of them has.
    """

    lab: str
    layout: str
    directory: Path
    image: str
    bridged: bool
    program: str
    ports: tuple[int, ...]
    spare: int

    @property
    def doing(self) -> str:
        """Return what is being done, for errors."""
        return f"starting containers of the lab {self.lab}"

    def name(self, node: str) -> str:
        """Return the name of a node's container."""
        return f"understudy-{self.lab}-{node}"


def start(
    launches: Sequence[tuple[LabNode, Sequence[str]]], box: Box, record: Callable[[list[LabNode]], None]
) -> list[LabNode]:
    """Start servers side by side and return them with their containers, before they are ready.

    One that is there already is started again. `record` is called when all are there and none runs. What a crash
    leaves before that has the lab's label.

    Raises:
        RefusedError: a container's name is taken, or the one that holds the ports is gone while others run.
        UnderstudyError: the engine refused.
    """
    here = dict(_labelled(box.directory))
    network = ["host"] if not box.bridged else [f"container:{_network(box, here).id}"]
    for node, _ in launches:
        node.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        node.log.parent.mkdir(parents=True, exist_ok=True)
    missing = [(node, argv) for node, argv in launches if node.name not in here]
    made = _create(box, [(node.name, _words(box, node, argv, network)) for node, argv in missing])
    here |= made
    started = [replace(node, process=here[node.name]) for node, _ in launches]
    record(started)
    docker.act(box.doing, "start", [here[node.name] for node, _ in launches])
    return started


def _words(box: Box, node: LabNode, argv: Sequence[str], network: Sequence[str]) -> list[str]:
    labels = {
        "layout": box.layout, "kind": node.kind, "role": node.role, "port": node.address.port, "lab": box.lab,
    }  # fmt: skip
    words = [word for key, value in labels.items() for word in ("--label", f"understudy.{key}={value}")]
    where = ["--workdir", str(node.directory), *docker.mount(node.directory)]
    return [*words, "--network", *network, *where, "--entrypoint", argv[0], box.image, *argv[1:]]


def _create(box: Box, wanted: Sequence[tuple[str, Sequence[str]]]) -> dict[str, Container]:
    engine = docker.engine(box.doing)
    calls = []
    for node, words in wanted:
        marks = ["--label", f"understudy.node={node}", "--label", f"{HOME_LABEL}={box.directory}"]
        calls.append(
            [box.doing, "create", "--name", box.name(node), "--user", engine.user, *engine.options, *marks, *words]
        )
    try:
        ids = docker.together(calls)
    except ServerSaidError as error:
        if "already in use" not in error.why:
            raise
        raise RefusedError(
            box.doing, error.why, "Another --name, or `understudy down` where that lab was started (UNDERSTUDY_HOME)."
        ) from error
    return {node: Container(made.strip(), box.name(node)) for (node, _), made in zip(wanted, ids, strict=True)}


def _network(box: Box, here: dict[str, Container]) -> Container:
    """Return the container whose network all share, running."""
    found = here.pop(_NETWORK, None)
    if found and found.state() == "running":
        return found
    if any(one.state() != "dead" for one in here.values()):
        raise RefusedError(
            box.doing, f"{box.name(_NETWORK)}, which holds the lab's ports, is gone, and others run without it",
            f"understudy down --name {box.lab}, then up again.",
        )  # fmt: skip
    if found is None:
        published = [word for port in box.ports for word in ("--publish", f"127.0.0.1:{port}:{port}")]
        # One more server, which nobody reaches: whatever else is in the image, this is.
        waits = ["--bind", "127.0.0.1", "--port", str(box.spare), "--save", "", "--loglevel", "warning"]
        words = [*published, "--entrypoint", box.program, box.image, *waits]
        found = _create(box, [(_NETWORK, words)])[_NETWORK]
    docker.act(box.doing, "start", [found])
    return found


def _labelled(directory: Path) -> list[tuple[str, Container]]:
    """Return every container of a lab by the name of its node, running or not."""
    said = docker.call(
        f"looking for the containers of {directory.name}",
        "ps", "--all", "--no-trunc", "--filter", f"label={HOME_LABEL}={directory}",
        "--format", '{{.Label "understudy.node"}}\t{{.ID}}\t{{.Names}}',
    )  # fmt: skip
    rows = [line.split("\t") for line in said.splitlines()]
    return [(node, Container(made, name)) for node, made, name in rows]


def kill(nodes: Sequence[LabNode]) -> None:
    """End containers as `docker kill` does, which waits until they are gone; one that is dead stays so."""
    alive = [one for one in _containers(nodes) if one.state() != "dead"]
    if alive:
        docker.act("killing containers", "kill", alive)


def start_again(doing: str, nodes: Sequence[LabNode]) -> None:
    """Start containers that are there and do not run."""
    docker.act(doing, "start", _containers(nodes))


def stop(nodes: Sequence[LabNode], gently_within_s: float = 0) -> None:
    """End containers, at once or asking first, keep their logs, and remove them."""
    containers = [node for node in nodes if isinstance(node.process, Container)]
    if gently_within_s:
        with contextlib.suppress(ServerSaidError):
            docker.act("stopping containers", "stop", _containers(containers), "--time", f"{gently_within_s:g}")
    _remove([(node.log, one) for node, one in zip(containers, _containers(containers), strict=True)])


def sweep(directory: Path, *, suppress: bool = False) -> None:
    """Remove every container of a lab, known to its state or not, and keep their logs.

    Raises:
        UnderstudyError: no engine answers, unless that is to be suppressed.
    """
    logs = directory / "logs"
    with contextlib.suppress(*([UnderstudyError] if suppress else [])):
        _remove([(logs / f"{node}.log", container) for node, container in _labelled(directory)])


def _remove(found: Sequence[tuple[Path, Container]]) -> None:
    for log, container in found:
        if log.parent.is_dir() and log.stem != _NETWORK and (text := container.said(100_000)):
            with log.open("a") as file:
                file.write(text + "\n")
    with contextlib.suppress(ServerSaidError):  # it is being removed already, or gone
        docker.act("removing containers", "rm", [one for _, one in found], "--force", "--volumes")


def _containers(nodes: Sequence[LabNode]) -> list[Container]:
    return [node.process for node in nodes if isinstance(node.process, Container)]
