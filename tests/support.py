"""What several tests do to servers, and ask of them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typist import typist
from understudy.backup.components.redis import ReadOptions, RedisComponent
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.set import BackupSet
from understudy.backup.take import take
from understudy.progress import Silent
from understudy.valkey.keyspace import list_slots, scan
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Mode, Target
from understudy.valkey.topology import SLOTS


def names(router: Router) -> list[bytes]:
    """Every key of the selected database."""
    if router.target.mode is Mode.OSS_CLUSTER:
        return [name for batch in list_slots(router, range(SLOTS)) for name in batch.names]
    address = router.owner(None)
    assert address is not None
    return sorted({name for batch in scan(router, address, None) for name in batch.names})


def digests(target: Target) -> dict[bytes, bytes]:
    """`DEBUG DIGEST-VALUE` of every key, with its absolute expiry."""
    with Router(target) as router:
        keys = names(router)
        values = router.execute([(key_slot(key), ("DEBUG", "DIGEST-VALUE", key)) for key in keys]).values
        expiries = router.execute([(key_slot(key), ("PTTL", key)) for key in keys]).values
        # an expiry is compared elsewhere, exactly; here only whether there is one
        return {key: value[0] + b" %d" % (ttl >= 0) for key, value, ttl in zip(keys, values, expiries, strict=True)}


def backed_up(target: Target, directory: Path, **options: object) -> BackupSet:
    """Take a set of a target, locally."""
    component = RedisComponent(target, ReadOptions(**options))  # type: ignore[arg-type]
    try:
        return take([component], LocalRepository(directory), None, "local", Silent()).backup
    finally:
        component.close()


@contextmanager
def meanwhile(act: Callable[[], object], pause_s: float = 0.0) -> Iterator[None]:
    """Do something over and over while the block runs; its error, if any, is raised at the end."""
    over = threading.Event()
    problems: list[BaseException] = []

    def loop() -> None:
        try:
            while not over.wait(pause_s):
                act()
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            problems.append(error)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)
    if problems:
        raise problems[0]


def started(*words: str, env: dict[str, str]) -> subprocess.Popen[str]:
    """Start the command without waiting for it."""
    whole = {**os.environ, **env}
    if (quick := typist()) and quick.can(whole):
        return quick.start(words, whole)
    return subprocess.Popen(
        [sys.executable, "-m", "understudy", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=whole,
    )


def eventually(holds: Callable[[], Any], within_s: float = 30.0) -> Any:
    """Return what `holds` returns as soon as that is true; fail when it is not in time."""
    end = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < end, f"not within {within_s} s"
        time.sleep(0.02)
    return found


def repository_root() -> Path:
    """The project's root."""
    return Path(__file__).parent.parent
