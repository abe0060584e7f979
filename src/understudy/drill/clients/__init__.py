"""The libraries that can be put under test, and the presets that have a name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import cast

from understudy import installed
from understudy.drill.client import Client, Preset, Watch
from understudy.errors import NotFoundError, UsageError
from understudy.valkey.target import Target

Connect = Callable[[Target, Preset], tuple[Client, Watch]]

LIBRARIES = {
    "redis-py": ("understudy.drill.clients.redis_py", "redis", "drill"),
    "valkey-py": ("understudy.drill.clients.valkey_py", "valkey", "clients"),
    "glide": ("understudy.drill.clients.glide", "glide_sync", "clients"),
}
BASES = {
    "defaults": "what the library does when it is told nothing but where the server is",
    "recommended": "timeouts, kept seeds and a deadline that survive a failover (docs/connecting.md)",
    "one-try": "recommended without any retry: fails fast, and does nothing twice",
}
RECOMMENDED_DEADLINE_S = 15.0


def find_preset(name: str, own: Mapping[str, Preset]) -> Preset:
    """Return the preset that is called so: the user's own, `defaults`, or `valkey-py/defaults`.

    Raises:
        NotFoundError: there is none.
    """
    if name in own:
        return own[name]
    library, _, base = name.rpartition("/")
    library = library or "redis-py"
    if library not in LIBRARIES or base not in BASES:
        known = [*own, *BASES, *(f"{one}/defaults" for one in LIBRARIES)]
        raise NotFoundError(f"looking for the client {name!r}", "there is none", f"One of: {', '.join(known)}.")
    return Preset(name, library, base, deadline_s=RECOMMENDED_DEADLINE_S if base == "recommended" else None)


def connect_with(library: str) -> Connect:
    """Return how a library connects.

    Raises:
        UsageError: no such library is known.
        NotFoundError: it is not installed.
    """
    if library not in LIBRARIES:
        raise UsageError(f"looking for the library {library!r}", f"known are {', '.join(LIBRARIES)}")
    module, package, extra = LIBRARIES[library]
    try:
        importlib.import_module(package)
    except ImportError:
        hint = f"{installed.how_to_add(extra)}."
        raise NotFoundError(f"putting {library} under test", "it is not installed", hint) from None
    return cast(Connect, importlib.import_module(module).connect)
