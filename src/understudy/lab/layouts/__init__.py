"""The layouts, one file each."""

import os

from understudy.errors import UsageError
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
) -> Options:
    """Return what was asked, with the layout's own choice where nothing was.

    A server named by `UNDERSTUDY_SERVER` is written down by its path, so that a later command in another
    environment starts the same one.

    Raises:
        UsageError: the layout cannot be like this.
        NotFoundError: the server is not there.
    """
    chosen = find_layout(layout)
    named = server or os.environ.get(SERVER_VARIABLE)
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
    )
    chosen.check(options)
    return options
