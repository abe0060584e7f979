"""The k6 script, on a real gateway with small stages: it must run as it stands, and find all answers right."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from understudy.lab import Lab
from waitingroom.conftest import SECRET, Served, serving

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "waitingroom.k6.js"
CROSSED, ABORTED = 99, 108  # exit codes of k6: a threshold (a busy machine is slow), and the script itself


@pytest.fixture(scope="module")
def k6() -> str:
    beside = Path(sys.executable).with_name("k6")
    found = str(beside) if beside.exists() else shutil.which("k6")
    if not found:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("k6 is not installed")
    return found


def run(k6: str, base: str, summary: Path, **more: str) -> tuple[int, str]:
    """Run the script; its exit code, and what it said."""
    words = [k6, "run", "--quiet", "--no-color", "--summary-export", str(summary), "-e", f"BASE_URL={base}"]
    words += [word for name, value in more.items() for word in ("-e", f"{name}={value}")]
    env = {**os.environ, "K6_NO_USAGE_REPORT": "true"}
    env.pop("WAITINGROOM_SECRET", None)
    done = subprocess.run([*words, str(SCRIPT)], capture_output=True, text=True, check=False, timeout=120, env=env)
    return done.returncode, done.stdout + done.stderr


def test_a_crowd_in_open_model_gets_right_answers_and_leaves_no_event_behind(
    served: Served, k6: str, tmp_path: Path
) -> None:
    (secret := tmp_path / "secret").write_text(f"{SECRET}\n")
    stages = {"STAGES": "20:1s,60:1s", "VUS": "20", "MAX_VUS": "100"}
    code, said = run(k6, served.url, tmp_path / "summary.json", SECRET_FILE=str(secret), **stages)
    assert code in (0, CROSSED), said
    metrics = json.loads((tmp_path / "summary.json").read_text())["metrics"]
    assert metrics["checks"]["passes"] >= 60 and metrics["checks"]["fails"] == 0, said
    assert metrics["join_ms"]["p(95)"] > 0 and metrics["status_ms"]["p(95)"] > 0
    assert not [one for one in served.administer("GET", "")["events"] if one["event_id"].startswith("k6-")]


def test_without_a_secret_it_says_what_to_set(served: Served, k6: str, tmp_path: Path) -> None:
    code, said = run(k6, served.url, tmp_path / "summary.json", STAGES="1:1s", VUS="1")
    assert code not in (0, CROSSED) and "Set WAITINGROOM_SECRET, or -e SECRET_FILE" in said


def test_a_gateway_that_limits_its_address_ends_it_with_what_to_do(
    valkey_standalone_lab: Lab, k6: str, tmp_path: Path
) -> None:
    with serving(valkey_standalone_lab.target(), rate_per_address=1.0) as limited:
        more = {"STAGES": "20:1s", "VUS": "5", "WAITINGROOM_SECRET": SECRET}
        code, said = run(k6, limited.url, tmp_path / "summary.json", **more)
    assert code == ABORTED and "--rate-per-address 0" in said, said
