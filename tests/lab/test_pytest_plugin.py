"""The fixtures that others get: fresh for every test, and honest where no server is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from understudy.lab import Lab

THEIRS = """
def test_theirs(valkey_standalone):
    assert valkey_standalone.call("node-1", "PING") == "PONG"
"""


def test_a_test_may_break_what_it_likes(valkey_standalone: Lab) -> None:
    valkey_standalone.call("node-1", "SET", "left", "over")
    valkey_standalone.kill("node-1")


def test_and_the_next_finds_everything_whole_and_empty(valkey_standalone: Lab) -> None:
    assert valkey_standalone.call("node-1", "DBSIZE") == 0


@pytest.mark.parametrize(("ci", "expected"), [("", "1 skipped"), ("true", "1 error")])
def test_a_missing_server_skips_on_a_laptop_and_fails_in_ci(tmp_path: Path, ci: str, expected: str) -> None:
    (tmp_path / "test_theirs.py").write_text(THEIRS)
    env = {**os.environ, "CI": ci, "UNDERSTUDY_SERVER": "no-such-server", "PYTEST_ADDOPTS": ""}
    words = [sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", "-q", str(tmp_path)]
    answer = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
    assert expected in answer.stdout
    assert ("no-such-server" in answer.stdout) == (ci == "true")
