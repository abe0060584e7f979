"""Labs that somebody else started in containers: a compose file whose containers carry the labels of a lab's nodes.

    understudy.lab     the lab's name                      understudy.layout  standalone, sentinel or cluster
    understudy.node    the node's name in it               understudy.kind    valkey or sentinel
    understudy.role    what it is started as: primary, replica or sentinel
    understudy.port    the port at which a client on this machine reaches it

They are killed, paused and started as our own. Whoever made them removes them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from understudy.errors import IntegrityError, RefusedError, UnderstudyError
from understudy.lab import containers, docker, state
from understudy.lab.docker import Container
from understudy.lab.layout import HOST, Options
from understudy.lab.layout import running as running_of
from understudy.lab.layouts import find_layout
from understudy.lab.live import UP_WITHIN_S, Lab
from understudy.lab.server import LabNode
from understudy.lab.talk import ask
from understudy.valkey.target import Address

PASSWORD_VARIABLE = "UNDERSTUDY_PASSWORD"  # noqa: S105 - its name
_LABELS = ("lab", "layout", "node", "kind", "role", "port", "home")
_COMPOSE = ("project", "project.config_files")
_LOOK_WITHIN_S = 10.0  # nobody asked for Docker yet: an engine that hangs is as none


class _Row(NamedTuple):
    """One container as `docker ps` tells it."""

    id: str
    name: str
    image: str
    networks: str
    lab: str
    layout: str
    node: str
    kind: str
    role: str
    port: str
    home: str
    project: str
    files: str


class Adopted(Lab):
    """A lab that somebody else started, and ends."""

    def __init__(self, name: str, options: Options, nodes: tuple[LabNode, ...]) -> None:
        super().__init__(name, options, state.directory(name), lambda _: None, nodes)

    @property
    def adopted(self) -> bool:
        """Return that it is."""
        return True

    def add_node(self, replica_of: str | LabNode | None = None, within_s: float = UP_WITHIN_S) -> LabNode:  # noqa: ARG002
        """Refuse: its nodes are named where it was started."""
        raise self._refused("adding a node to")

    def remove_nodes(self, *nodes: str | LabNode, within_s: float = UP_WITHIN_S) -> None:
        """Refuse to remove any; without one, have the others look again at who is there."""
        if nodes:
            raise self._refused("removing nodes of")
        super().remove_nodes(within_s=within_s)

    def stop(self) -> None:
        """Refuse."""
        raise self._refused("ending")

    def _launch(self, nodes: Sequence[LabNode]) -> None:
        containers.start_again(f"starting containers of the lab {self.name}", nodes)

    def _refused(self, doing: str) -> RefusedError:
        return RefusedError(f"{doing} the lab {self.name}", "its containers were not started by understudy")


def find(name: str) -> Lab | None:
    """Return the lab of this name that an engine has, running or not; None where there is none, or no engine.

    Raises:
        IntegrityError: its labels make no sense.
    """
    rows = _rows(name)
    return _lab(name, rows) if rows else None


def running() -> list[Lab]:
    """Return the labs that an engine has of which at least one container runs.

    Those that another `understudy` started are another user's, or of another UNDERSTUDY_HOME: they must be named.
    """
    rows = [row for row in _rows() if not row.home]
    labs = []
    for name in sorted({row.lab for row in rows}):
        with contextlib.suppress(IntegrityError):  # whoever asks for that one by name is told what is wrong
            labs.append(_lab(name, [row for row in rows if row.lab == name]))
    return [lab for lab in labs if any(node.alive for node in lab.nodes)]


def not_ours(name: str, word: str) -> RefusedError | None:
    """Return the refusal to end a lab of this name, with the command that does; None where there is none."""
    rows = _rows(name)
    if not rows:
        return None
    row = rows[0]
    if row.home:
        hint = f"UNDERSTUDY_HOME is another there: its directory is {row.home}."
    elif row.project:
        files = "".join(f" -f {file}" for file in row.files.split(",") if file)
        hint = f"docker compose -p {row.project}{files} {word}"
    else:
        hint = f"docker rm --force {' '.join(row.name for row in rows)}"
    return RefusedError(f"ending the lab {name}", "its containers were not started from here", hint)


def _rows(lab: str | None = None) -> list[_Row]:
    if not docker.on_path():
        return []
    fields = [f'{{{{.Label "understudy.{name}"}}}}' for name in _LABELS]
    fields += [f'{{{{.Label "com.docker.compose.{name}"}}}}' for name in _COMPOSE]
    wanted = "label=understudy.lab" + (f"={lab}" if lab else "")
    form = "\t".join(["{{.ID}}", "{{.Names}}", "{{.Image}}", "{{.Networks}}", *fields])
    try:
        said = docker.call(
            "looking for labs", "ps", "--all", "--no-trunc", "--filter", wanted, "--filter", "label=understudy.kind",
            "--format", form, within_s=_LOOK_WITHIN_S,
        )  # fmt: skip
    except UnderstudyError:
        return []  # no engine, no labs of its
    split = [line.split("\t") for line in said.splitlines()]
    rows = [_Row(*fields) for fields in split if len(fields) == len(_Row._fields)]  # else a label has a tab in it
    return sorted(rows, key=lambda row: (row.kind != "valkey", row.node))


def _lab(name: str, rows: Sequence[_Row]) -> Lab:
    try:
        find_layout(rows[0].layout)
        nodes = tuple(_node(name, row) for row in rows)
    except (ValueError, UnderstudyError) as error:
        raise IntegrityError(
            f"reading the labels of the lab {name}", str(error), "docs/containers.md has them."
        ) from error
    if len({node.name for node in nodes}) < len(nodes):
        raise IntegrityError(f"reading the labels of the lab {name}", "two containers have the same node's name")
    primaries = sum(node.role == "primary" for node in nodes)
    options = Options(
        rows[0].layout,
        min(node.address.port for node in nodes),
        max(primaries, 1),
        sum(node.role == "replica" for node in nodes) // max(primaries, 1),
        password=os.environ.get(PASSWORD_VARIABLE) or None,
        image=rows[0].image,
        network="host" if all(row.networks == "host" for row in rows) else "bridge",
    )
    return Adopted(name, options, _as_announced(nodes, options))


def _node(lab: str, row: _Row) -> LabNode:
    directory = state.directory(lab)
    if row.kind not in {"valkey", "sentinel"} or row.role not in {"primary", "replica", "sentinel"}:
        raise ValueError(f"{row.name} has the kind {row.kind!r} and the role {row.role!r}")
    port = int(row.port)
    return LabNode(
        row.node, row.kind, row.role, Address(HOST, port), port,  # type: ignore[arg-type]
        directory / row.node, directory / "logs" / f"{row.node}.log", Container(row.id, row.name),
    )  # fmt: skip


def _as_announced(nodes: tuple[LabNode, ...], options: Options) -> tuple[LabNode, ...]:
    """Return the nodes at the addresses that a cluster tells its clients, which need not be 127.0.0.1."""
    if options.layout != "cluster":
        return nodes
    for node in running_of(nodes, "valkey"):
        with contextlib.suppress(UnderstudyError):
            text = str(ask(node, options.password, "CLUSTER", "NODES"))
            told = (line.split(" ")[1].partition("@")[0] for line in text.splitlines())
            hosts = {int(port): host for host, _, port in (place.rpartition(":") for place in told) if host}
            return tuple(
                replace(one, address=Address(hosts.get(one.address.port, HOST), one.address.port)) for one in nodes
            )
    return nodes
