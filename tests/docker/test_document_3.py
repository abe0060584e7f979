"""Document 3's two environments, played by the script that anyone can run; skipped where no Docker engine answers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine import compose, server_image

IMAGE, MISSING = server_image()
pytestmark = [
    pytest.mark.skipif(not IMAGE, reason=MISSING),
    pytest.mark.skipif(not compose(), reason="there is no compose command"),
    pytest.mark.timeout(600),
    pytest.mark.long(90),
]


@pytest.mark.parametrize("which", ["ha", "cluster"])
def test_the_document_s_environment_goes_up_by_compose_and_survives_a_killed_container(
    which: str, understudy_home: Path
) -> None:
    script = Path(__file__).parent / "document_3.py"
    # what a busy machine adds is not what is tested here, nor is a failover of a server that is only slow
    limits = {"MAX_DOWNTIME": "30s", "MAX_DRIFT": "3s", "DOWN_AFTER_MS": "4000", "NODE_TIMEOUT_MS": "5000"}
    played = subprocess.run(
        [sys.executable, str(script), which], capture_output=True, text=True, check=False, timeout=580,
        env={**os.environ, **limits},
    )  # fmt: skip
    assert played.returncode == 0, played.stdout[-4000:] + played.stderr[-2000:]
    assert "document 3 holds." in played.stdout
