"""A cluster behind one endpoint, as managed services offer it: Envoy's cluster-aware Redis proxy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from understudy.errors import UnderstudyError, UnreachableError
from understudy.lab import certificates
from understudy.lab.deadline import Deadline
from understudy.lab.layout import Options, of_kind, place
from understudy.lab.layouts.cluster import Cluster, await_cluster, cluster_argv, data_nodes
from understudy.lab.layouts.common import await_answers
from understudy.lab.server import LabNode
from understudy.lab.servers.envoy import redis_listener, write_bootstrap
from understudy.lab.servers.valkey import Binary
from understudy.valkey.target import Address, Mode, Target, Tls
from understudy.valkey.wire import Wire


class Enterprise(Cluster):
    """A cluster whose clients know one address only. With TLS it is the endpoint that speaks it."""

    name = "enterprise"
    mode = Mode.ENTERPRISE

    def plan(self, options: Options, directory: Path) -> tuple[LabNode, ...]:
        """Return the endpoint on the first port, then the nodes of the cluster."""
        proxy = place("proxy", "envoy", "proxy", options.port, directory)
        return (proxy, *data_nodes(options, directory, options.port + 1, fronted=False))

    def argv(self, node: LabNode, nodes: Sequence[LabNode], options: Options, binary: Binary) -> list[str]:
        """Return the command of one server."""
        if node.kind == "valkey":
            return cluster_argv(node, options, binary, own=False)
        files = certificates.files_in(node.directory.parent) if options.tls else None
        members = [member.address for member in of_kind(nodes, "valkey")]
        listener, cluster = redis_listener(node.address, members, options.password, files)
        return write_bootstrap(node.directory, [listener], [cluster])

    def await_usable(self, nodes: Sequence[LabNode], options: Options, deadline: Deadline) -> None:
        """Wait until the cluster is whole, and every shard answers through the endpoint."""
        data, proxy = of_kind(nodes, "valkey"), of_kind(nodes, "envoy")[0]
        await_answers(data, options, deadline)
        await_cluster(data, options, deadline)
        deadline.until("waiting for the endpoint", lambda: _reaches_all(proxy, options), nodes)

    def seeds(self, nodes: Sequence[LabNode]) -> tuple[Address, ...]:
        """Return the endpoint."""
        return (of_kind(nodes, "envoy")[0].address,)


def _reaches_all(proxy: LabNode, options: Options) -> bool:
    """Return whether reads of keys all over the slots are answered."""
    files = certificates.files_in(proxy.directory.parent)
    tls = Tls(ca_file=str(files.authority)) if options.tls else None
    try:
        with Wire(proxy.address, Target((proxy.address,), password=options.password, tls=tls), 1.0) as wire:
            for i in range(8 * options.primaries):
                wire.call("EXISTS", f"understudy:probe:{i}")
    except UnreachableError:
        raise
    except UnderstudyError:
        return False
    return True
