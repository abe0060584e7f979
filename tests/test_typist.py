"""A fork that stands for a process of the program is one in all that its starter can see of it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from typist import Typist

WORDS = (sys.executable, "-P", "-m", "understudy.backup.workers", "understudy.backup.tasks.read_keys:run")


@pytest.fixture(autouse=True)
def _forks(quick: Typist | None) -> None:
    if quick is None:
        pytest.skip("every process is a fresh one here")


@contextmanager
def worker(**options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """One that waits for its task until its standard input ends."""
    pipe = subprocess.PIPE
    with subprocess.Popen(WORDS, stdin=pipe, stdout=pipe, stderr=pipe, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def is_fork(process: subprocess.Popen[bytes]) -> bool:
    parent = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[1])
    return parent != os.getpid()


def test_it_is_seen_killed_and_waited_for() -> None:
    with worker(start_new_session=True) as process:
        assert is_fork(process)
        assert os.getsid(process.pid) == process.pid
        assert Path(f"/proc/{process.pid}/cmdline").read_bytes().rstrip(b"\0") == "\0".join(WORDS).encode()
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.kill()
        assert process.wait(20) == process.poll() == -signal.SIGKILL
    assert not Path(f"/proc/{process.pid}").exists()


def test_it_hears_the_end_of_its_input_and_its_end_is_told() -> None:
    with worker() as process:
        assert is_fork(process)
        assert os.getsid(process.pid) == os.getsid(0)
        said, complaint = process.communicate(timeout=20)
        assert (process.returncode, said) == (1, b"")
        assert b"JSONDecodeError" in complaint


def test_directory_environment_and_umask_are_those_that_were_asked_for(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with worker(cwd=tmp_path, env={**os.environ, "PLANTED": "there"}) as process:
            assert is_fork(process)
            place = Path(f"/proc/{process.pid}")
            assert (place / "cwd").readlink() == tmp_path
            assert "\nUmask:\t0027\n" in (place / "status").read_text()
    finally:
        os.umask(before)


def test_what_a_fork_would_not_inherit_makes_a_fresh_process() -> None:
    with worker(env={**os.environ, "PYTHONUTF8": "1"}) as process:
        assert not is_fork(process)
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (4096 if soft != 4096 else 8192, hard))
    try:
        with worker() as process:
            assert not is_fork(process)
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def test_what_was_printed_last_is_not_lost_and_the_code_is_the_commands(quick: Typist) -> None:
    good = quick.run(["--version"], os.environ, 60)
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.startswith("understudy ")
    bad = quick.run(["no-such-verb"], os.environ, 60)
    assert bad.returncode == 2
    assert "no-such-verb" in bad.stderr
