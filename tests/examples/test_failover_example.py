"""The example project: its tests fail with a bad client setting, for the right reason, and pass with a good one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from support import repository_root
from understudy.drill import scenario

pytestmark = pytest.mark.long(12)
EXAMPLE = repository_root() / "examples" / "failover-tests"
GOES_ON = "tests/test_failover.py::test_the_shop_goes_on_when_a_primary_dies"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLE, tmp_path / "shop", ignore=shutil.ignore_patterns("__pycache__")))


def started(project: Path, client: str) -> subprocess.Popen[str]:
    """Run the example's tests with nothing of our own settings; of all plugins here only ours, for the sake of time."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env |= {"SHOP_CLIENT": client, "CI": "true", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "understudy.pytest_plugin", "-q", "--tb=line"],
        cwd=project, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_its_tests_fail_with_the_hasty_client_and_pass_with_the_patient_one(project: Path) -> None:
    clients = {client: started(project, client) for client in ("hasty", "patient")}
    said = {client: process.communicate(timeout=150)[0] for client, process in clients.items()}
    assert clients["patient"].returncode == 0, said["patient"]
    assert "2 passed" in said["patient"]
    assert clients["hasty"].returncode == 1, said["hasty"]
    assert "1 failed, 1 passed" in said["hasty"]
    assert re.findall(r"^FAILED (\S+)", said["hasty"], re.MULTILINE) == [GOES_ON]
    because = r"(ConnectionError|ClusterDownError|RedisClusterException|ClusterError)\b"  # it gave up: no primary yet
    assert re.search(because, said["hasty"]), said["hasty"]


def test_the_example_is_a_project_of_its_own_that_uses_what_is_there() -> None:
    about = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())
    assert "understudy" not in str(about["project"]["dependencies"]), "only its tests need us"
    assert "understudy" not in (EXAMPLE / "shop" / "orders.py").read_text()
    drill = scenario.load(str(EXAMPLE / "drills" / "shop.toml"))
    assert drill.name == "shop"
    assert "hasty" in (EXAMPLE / "README.md").read_text()
