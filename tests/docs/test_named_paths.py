"""The files and tests that the pages name are there: a promise is shown by a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.markdown import pages, prose
from support import repository_root

ROOT = repository_root()
_PATH = re.compile(r"`((?:tests|src|deploy|examples|benchmarks|docs)/[\w./-]*|docker-compose[\w.]*\.yml)`")
_TEST = re.compile(r"`(test_[a-z]\w+)`")
TESTS = {name for file in (ROOT / "tests").rglob("*.py") for name in re.findall(r"def (test_\w+)", file.read_text())}


def missing(text: str) -> list[str]:
    """Return what a page names that is not there."""
    words = prose(text)
    paths = [path for path in _PATH.findall(words) if "NAME" not in path and not (ROOT / path).exists()]
    return paths + [name for name in _TEST.findall(words) if name not in TESTS]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_and_test_that_a_page_names_is_there(page: Path) -> None:
    assert not missing(page.read_text())


def test_what_is_not_there_is_noticed() -> None:
    said = "`tests/support.py` `tests/no.py` `src/understudy/cli/NAME.py` `docker-compose.none.yml` `test_none`"
    assert missing(said) == ["tests/no.py", "docker-compose.none.yml", "test_none"]
