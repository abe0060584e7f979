"""What all tests share: a home of their own for labs, and the command as a user types it."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import hypothesis
import pytest

from order import ordered
from postgres import database, postgres_16, postgres_18  # noqa: F401 - fixtures, for every folder
from rsyncd import rsyncd  # noqa: F401
from s3 import s3, s3_env  # noqa: F401
from typist import Typist, answer_children, close, typist

# an example that takes long says how busy the machine is, and nothing about what is tested
hypothesis.settings.register_profile("understudy", deadline=None)
hypothesis.settings.load_profile("understudy")


class Typed(Protocol):
    """Runs `understudy` with these words; `env` is added to the environment."""

    def __call__(
        self, *words: str, env: dict[str, str] | None = None, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.hookimpl(trylast=True)  # after others have left tests out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = ordered(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def pytest_configure(config: pytest.Config) -> None:
    # what `nohup` and a shell's jobs in the background ignore would be ignored by all that is started from here
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN and not config.getoption("numprocesses", None):  # of workers
        signal.signal(signal.SIGHUP, lambda *_: None)
    answer_children()


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # thousands of tests stay until the end: nobody need look through them again and again


def pytest_unconfigure() -> None:
    close()


@pytest.fixture
def understudy_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory of this test's own; whatever runs in it at the end is ended."""
    home = tmp_path / "home"
    monkeypatch.setenv("UNDERSTUDY_HOME", str(home))
    for name in ("UNDERSTUDY_SERVER", "UNDERSTUDY_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    yield home
    from understudy.lab import named, state

    for name in state.names():
        named.clean(name, force=True)


@pytest.fixture(scope="session")
def quick() -> Typist | None:
    """What runs commands without importing the program each time."""
    return typist()


@pytest.fixture
def typed(understudy_home: Path, quick: Typist | None) -> Typed:
    """The command line, as a user types it, with a state directory of its own."""

    def run(*words: str, env: dict[str, str] | None = None, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        whole = {**os.environ, **(env or {})}
        if quick and quick.can(whole):
            return quick.run(words, whole, timeout_s)
        return subprocess.run(
            [sys.executable, "-m", "understudy", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            env=whole,
        )

    return run


@pytest.fixture
def port() -> Iterator[str]:
    """The first of a block of ports that nobody else in this run gets."""
    from understudy.lab.ports import claim

    block = claim([*range(10), *range(50, 60), *range(100, 104), *range(10_000, 10_010)])
    yield str(block.first)
    block.release()
