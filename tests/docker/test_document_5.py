"""Document 5's stack with Docker, where an engine answers: the script beside this file, as anybody would run it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from engine import compose, image_there, needs_engine, ours

SCRIPT = Path(__file__).with_name("document-5.sh")
_MOST_S = 900

pytestmark = [needs_engine, pytest.mark.long(150), pytest.mark.timeout(_MOST_S + 60)]


def test_document_5_holds_with_docker() -> None:
    env = {**os.environ, **ours()}
    if not compose():
        pytest.skip("there is neither `docker compose` nor docker-compose")
    wanted = {
        "UNDERSTUDY_IMAGE": "redis-backup-tool:latest",
        "POSTGRES_IMAGE": "postgres:17",
        "VALKEY_IMAGE": "valkey/valkey:9",
    }
    for name in [env.get(variable, default) for variable, default in wanted.items()]:
        if not image_there(name):
            pytest.skip(f"no image {name} is here: make build-backup-tool, tests/docker/images.sh")
    done = subprocess.run([SCRIPT], env=env, capture_output=True, text=True, check=False, timeout=_MOST_S)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.rstrip().endswith("All of it held.")
