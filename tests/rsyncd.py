"""An rsync daemon on loopback, where rsync is installed: it comes with no wheel."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import eventually
from understudy.lab.ports import claim_few

PASSWORD = "rsync-pl4nted-secret"  # of the user `backup` in the module `locked`
needs_rsync = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed, and comes in no wheel")


@dataclass(frozen=True)
class Daemon:
    """Its modules: `m` may be written to, `ro` not, `locked` wants a password."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    def uri(self, path: str) -> str:
        return f"rsync://127.0.0.1:{self.port}/{path}"


@contextmanager
def rsync_daemon(folder: Path) -> Iterator[Daemon]:
    """Run a daemon that serves the directory `modules` in `folder`."""
    block = claim_few()
    modules = folder / "modules"
    modules.mkdir()
    (folder / "secrets").write_text(f"backup:{PASSWORD}\n")
    (folder / "secrets").chmod(0o600)
    # as root, a daemon becomes nobody unless told otherwise
    who = "uid = root\ngid = root\n" if os.geteuid() == 0 else ""
    config = folder / "rsyncd.conf"
    config.write_text(
        f"use chroot = no\n{who}pid file = {folder}/pid\nlog file = {folder}/log\n"
        f"[m]\npath = {modules}\nread only = no\n"
        f"[ro]\npath = {modules}\nread only = yes\n"
        f"[locked]\npath = {modules}\nread only = no\nauth users = backup\nsecrets file = {folder}/secrets\n"
    )
    process = subprocess.Popen(
        ["rsync", "--daemon", "--no-detach", f"--port={block.first}", "--address=127.0.0.1", f"--config={config}"],
        stdin=subprocess.DEVNULL,
    )

    def listens() -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", block.first)) == 0

    try:
        eventually(listens, within_s=20)
        yield Daemon(block.first, modules, process)
    finally:
        process.terminate()
        process.wait(10)
        block.release()


@pytest.fixture(scope="session")
def rsyncd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """An rsync daemon, for the whole session; a test that asks for it is marked `needs_rsync`."""
    with rsync_daemon(tmp_path_factory.mktemp("rsyncd")) as daemon:
        yield daemon
