"""Document 1 with Docker, where an engine answers: the script beside this file, as anybody would run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine import image_there, needs_engine, ours

SCRIPT = Path(__file__).with_name("document_1.py")
_CANNOT = 3
_MOST_S = 1500  # most of it is `make build-backup-tool`, where nothing of it was built before

pytestmark = [needs_engine, pytest.mark.long(120), pytest.mark.timeout(_MOST_S + 60)]


def test_document_1_holds_with_docker() -> None:
    env = {**os.environ, **ours()}
    if "BASE_IMAGE" not in env and not image_there("redis-backup-tool:latest"):
        pytest.skip("no image redis-backup-tool:latest, and none to build it from here: tests/docker/images.sh")
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], env=env, capture_output=True, text=True, check=False, timeout=_MOST_S
    )
    if done.returncode == _CANNOT:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
