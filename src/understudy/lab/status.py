"""What a lab looks like right now, node by node."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from understudy.errors import UnderstudyError, UnreachableError
from understudy.lab.layout import of_kind
from understudy.lab.live import Lab
from understudy.lab.named import find, here_or_adopted, records
from understudy.lab.server import LabNode
from understudy.lab.talk import info
from understudy.valkey.target import Address
from understudy.valkey.topology import Topology

_ASK_WITHIN_S = 1.0


@dataclass(frozen=True)
class NodeStatus:
    """One node as it is now. What could not be asked, or does not apply, is None.

    `state` is `running`, `paused`, `dead`, or `silent` where the process lives and does not answer. `slots` counts
    a primary's slots, `memory_bytes` is the server's own `used_memory`.
    """

    name: str
    address: str
    state: str
    role: str
    pid: int | None = None
    primary: str | None = None
    slots: int | None = None
    keys: int | None = None
    memory_bytes: int | None = None
    container: str | None = None


@dataclass(frozen=True)
class LabStatus:
    """A lab: `running`, `degraded` (some node is not running) or `stopped`, and its nodes.

    `runs_as` is `processes`, `containers`, or `adopted`: containers that somebody else started.
    """

    name: str
    layout: str
    state: str
    seeds: str
    tls: bool
    persist: bool
    directory: str
    nodes: tuple[NodeStatus, ...]
    runs_as: str = "processes"

    def as_data(self) -> dict[str, Any]:
        """Return the status as `--json` prints it."""
        return dataclasses.asdict(self)


def status_of(lab: Lab) -> LabStatus:
    """Ask every node of a lab how it is."""
    slots = _slots(lab)
    nodes = tuple(_node(lab, node, slots) for node in lab.nodes)
    if all(node.state == "running" for node in nodes) and nodes:
        state = "running"
    else:
        state = "stopped" if all(node.state == "dead" for node in nodes) else "degraded"
    options = lab.options
    seeds = str(lab.target()) if lab.nodes else ""
    runs_as = "adopted" if lab.adopted else "containers" if options.image else "processes"
    return LabStatus(
        lab.name, lab.layout, state, seeds, options.tls, options.persist, str(lab.directory), nodes, runs_as
    )


def every() -> list[LabStatus]:
    """Return the status of every lab that is running or keeps its data; where there is none, of those of others."""
    return [status_of(find(record.name)) for record in records()] or [status_of(lab) for lab in here_or_adopted()]


def _node(lab: Lab, node: LabNode, slots: Mapping[Address, int]) -> NodeStatus:
    plain = NodeStatus(node.name, str(node.address), node.state, node.role, node.pid, container=node.container)
    if plain.state == "dead":
        return dataclasses.replace(plain, pid=None)
    if node.kind == "envoy" or plain.state == "paused":
        return plain
    try:
        said = info(lab.call(node, "INFO", timeout_s=_ASK_WITHIN_S))
    except UnreachableError:
        return dataclasses.replace(plain, state="silent")
    except UnderstudyError as error:
        return dataclasses.replace(plain, state=f"refusing ({error.why})")
    memory = int(said["used_memory"]) if "used_memory" in said else None
    if node.kind == "sentinel":
        return dataclasses.replace(plain, memory_bytes=memory)
    replica = said["role"] == "slave"
    return dataclasses.replace(
        plain,
        role="replica" if replica else "primary",
        primary=f"{said['master_host']}:{said['master_port']}" if replica else None,
        slots=slots.get(node.address, 0) if slots and not replica else None,
        keys=sum(_keys(value) for name, value in said.items() if name.startswith("db") and "keys=" in value),
        memory_bytes=memory,
    )


def _keys(text: str) -> int:
    """Read the value of a line such as `db0:keys=3,expires=0`."""
    return int(dict(pair.split("=", 1) for pair in text.split(","))["keys"])


def _slots(lab: Lab) -> dict[Address, int]:
    """Return how many slots each primary serves, as the first node that answers sees it; empty outside a cluster."""
    if lab.layout not in {"cluster", "enterprise"}:
        return {}
    for node in of_kind(lab.nodes, "valkey"):
        if node.state == "running":
            with contextlib.suppress(UnderstudyError):
                text = lab.call(node, "CLUSTER", "NODES", timeout_s=_ASK_WITHIN_S)
                topology = Topology.from_cluster_nodes(text, node.address)
                return {shard.primary.address: len(shard.slots) for shard in topology.shards if shard.primary}
    return {}
