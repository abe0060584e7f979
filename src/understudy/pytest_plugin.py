"""Fixtures for your tests: a real stack of each layout, started once a session (once a worker under xdist).

`valkey_standalone`, `valkey_sentinel`, `valkey_cluster` and `valkey_enterprise` each give a
`understudy.lab.Lab`, whole and empty at the start of every test: what the test before killed or paused runs
again, and every key and function is gone. Where a fixture of a wider scope needs a stack, `valkey_cluster_lab`
and so on are the same labs for the whole session, as they are.

Where no server is installed the tests are skipped; with CI=true they fail, so that none is forgotten.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from understudy.lab import Lab


def _run(layout: str) -> Iterator[Lab]:
    # Every pytest run of whoever has us installed loads this file: nothing is imported before it is needed.
    from understudy import lab  # noqa: PLC0415
    from understudy.errors import NotFoundError  # noqa: PLC0415

    starts: dict[str, Callable[[], AbstractContextManager[Lab]]] = {
        "standalone": lab.standalone,
        "sentinel": lab.sentinel,
        "cluster": lab.cluster,
        "enterprise": lab.enterprise,
    }
    with ExitStack() as stack:
        try:
            running = stack.enter_context(starts[layout]())
        except NotFoundError as missing:
            give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
            give_up(f"{missing} {missing.hint}")
        yield running


def _fresh(running: Lab) -> Lab:
    if any(node.state != "running" for node in running.nodes):
        running.heal()
    running.flush()
    return running


@pytest.fixture(scope="session")
def valkey_standalone_lab() -> Iterator[Lab]:
    """One server, for the whole session."""
    yield from _run("standalone")


@pytest.fixture(scope="session")
def valkey_sentinel_lab() -> Iterator[Lab]:
    """A primary, two replicas and three sentinels, for the whole session."""
    yield from _run("sentinel")


@pytest.fixture(scope="session")
def valkey_cluster_lab() -> Iterator[Lab]:
    """Three primaries and three replicas, for the whole session."""
    yield from _run("cluster")


@pytest.fixture(scope="session")
def valkey_enterprise_lab() -> Iterator[Lab]:
    """A cluster behind one endpoint, for the whole session."""
    yield from _run("enterprise")


@pytest.fixture
def valkey_standalone(valkey_standalone_lab: Lab) -> Lab:
    """One server, empty."""
    return _fresh(valkey_standalone_lab)


@pytest.fixture
def valkey_sentinel(valkey_sentinel_lab: Lab) -> Lab:
    """A primary, two replicas and three sentinels, empty."""
    return _fresh(valkey_sentinel_lab)


@pytest.fixture
def valkey_cluster(valkey_cluster_lab: Lab) -> Lab:
    """Three primaries and three replicas, empty."""
    return _fresh(valkey_cluster_lab)


@pytest.fixture
def valkey_enterprise(valkey_enterprise_lab: Lab) -> Lab:
    """A cluster behind one endpoint, empty."""
    return _fresh(valkey_enterprise_lab)
