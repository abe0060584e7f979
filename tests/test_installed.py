"""What a missing extra's advice and a "next" line say: something that works when it is typed here."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from support import repository_root
from understudy import installed


@pytest.fixture
def from_a_package_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Pretend that the package lies in site-packages, and that pip noted this of where it came from."""

    class Noted:
        def __init__(self, told: str | None) -> None:
            self._told = told

        def read_text(self, _: str) -> str | None:
            return self._told

    def pretend(told: str | None) -> None:
        monkeypatch.setattr(installed, "__file__", str(tmp_path / "lib" / "site-packages" / "understudy" / "x.py"))
        monkeypatch.setattr(metadata, "distribution", lambda _: Noted(told))

    return pretend


def test_a_clone_is_named_by_its_directory_for_the_pip_of_this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/none")
    root = repository_root()
    assert installed.how_to_add("drill") == f"{sys.executable} -m pip install -e '{root}[drill]'"
    error = installed.missing_extra("running a drill", ImportError(name="markupsafe"), "drill")
    assert error.why == "markupsafe is not installed"
    assert error.hint == f"{installed.how_to_add('drill')}."


def test_what_came_from_a_directory_or_git_comes_from_there_again(
    from_a_package_elsewhere: Callable[[str | None], None], tmp_path: Path
) -> None:
    clone = tmp_path / "a clone"
    clone.mkdir()
    (clone / "pyproject.toml").touch()
    from_a_package_elsewhere(json.dumps({"url": clone.as_uri(), "dir_info": {}}))
    assert installed.how_to_add("lab").endswith(f"pip install '{clone}[lab]'")
    from_a_package_elsewhere(
        json.dumps({"url": "https://git.example/u", "vcs_info": {"vcs": "git", "commit_id": "1f"}})
    )
    assert installed.how_to_add("lab").endswith("pip install 'understudy[lab] @ git+https://git.example/u@1f'")


@pytest.mark.parametrize(
    "told", [None, '{"url": "file:///dist/u.whl", "archive_info": {}}', '{"url": "file:///gone", "dir_info": {}}']
)
def test_elsewhere_no_index_is_asked_for_a_name_that_is_not_ours(
    told: str | None, from_a_package_elsewhere: Callable[[str | None], None]
) -> None:
    from_a_package_elsewhere(told)
    assert installed.how_to_add("s3") == "install the extra 's3' of understudy from where you installed it"
    assert installed.how_to_add("drill,waitingroom").startswith("install the extras drill and waitingroom of")


def test_nothing_in_the_source_tells_to_install_the_name_from_an_index() -> None:
    sources = sorted(Path(installed.__file__).parent.rglob("*.py"))
    pages = [*sorted((repository_root() / "docs").glob("*.md")), *repository_root().glob("*.md")]
    wrong = re.compile(r"install[^\n]* '?\"?understudy\[(?![^\n]*\] @ )")
    assert [str(one) for one in [*sources, *pages] if wrong.search(one.read_text())] == []


def test_a_command_is_shown_as_it_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / ".venv" / "bin" / "understudy"
    script.parent.mkdir(parents=True)
    script.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(script.with_name("python")))
    monkeypatch.setenv("PATH", "/none")
    monkeypatch.chdir(tmp_path)
    assert installed.as_typed("understudy up cluster") == ".venv/bin/understudy up cluster"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert installed.as_typed("understudy up cluster") == f"{script} up cluster"
    monkeypatch.setenv("PATH", str(script.parent))
    assert installed.as_typed("understudy up cluster") == "understudy up cluster"
    assert installed.as_typed("export REDIS_MODE=cluster") == "export REDIS_MODE=cluster"
