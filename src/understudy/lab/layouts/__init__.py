"""The layouts, one file each."""

import os

from understudy.errors import UsageError
from understudy.lab import docker
from understudy.lab.layout import Layout, Options
from understudy.lab.layouts.cluster import Cluster
from understudy.lab.layouts.enterprise import Enterprise
from understudy.lab.layouts.sentinel import Sentinel
from understudy.lab.layouts.standalone import Standalone
from understudy.lab.servers.valkey import SERVER_VARIABLE, find_binary

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (Standalone(), Sentinel(), Cluster(), Enterprise())}


def find_layout(name: str) -> Layout:
    """Return a layout by its name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in LAYOUTS:
        raise UsageError(
            f"looking for the layout {name!r}", "there is none of that name", f"One of: {', '.join(LAYOUTS)}."
        )
    return LAYOUTS[name]


def options_for(
    layout: str,
    *,
    port: int | None = None,
    primaries: int | None = None,
    replicas: int | None = None,
    server: str | None = None,
    password: str | None = None,
    tls: bool = False,
    persist: bool = False,
    node_timeout_ms: int = 2000,
    down_after_ms: int = 1000,
    databases: int = 16,
    image: str | None = None,
    network: str | None = None,
) -> Options:
    """Return what was asked, with the layout's own choice where nothing was. With an `image` it is run in containers.

    A server named by `UNDERSTUDY_SERVER` is written down by its path, so that a later command in another
    environment starts the same one.

    Raises:
        UsageError: the layout cannot be like this.
        UnderstudyError: containers are wanted, and no Docker engine answers.
        NotFoundError: the server is not there.
    """
    chosen = find_layout(layout)
    named = server or os.environ.get(SERVER_VARIABLE)
    if image is not None:
        network = _network(layout, network, server=named, tls=tls)
    options = Options(
        layout,
        chosen.default_port if port is None else port,
        chosen.default_primaries if primaries is None else primaries,
        chosen.default_replicas if replicas is None else replicas,
        find_binary(named).path if named else None,
        password or None,
        tls,
        persist,
        node_timeout_ms,
        down_after_ms,
        databases,
        image,
        network,
    )
    chosen.check(options)
    return options


def _network(layout: str, wanted: str | None, *, server: str | None, tls: bool) -> str:
    """Return the network of a lab in containers: this machine's where the engine has it, unless another is wanted."""
    doing = f"planning the layout {layout} in containers"
    if server:
        raise UsageError(
            doing, f"{server} is a program of this machine", f"Name an --image instead, without {SERVER_VARIABLE}."
        )
    if wanted not in {None, "host", "bridge"}:
        raise UsageError(doing, f"there is no network {wanted!r}", "host or bridge.")
    network = wanted or ("host" if docker.engine(doing).host_network else "bridge")
    if tls and network == "bridge":
        raise UsageError(doing, "Envoy, which speaks TLS, is on another network than they", "--network host (Linux).")
    return network
