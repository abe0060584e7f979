"""The documentation site, as `make docs` builds it: strict, whole, and needing nothing from elsewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer.main

from docs.markdown import pages
from support import repository_root
from understudy.cli.main import app

ROOT = repository_root()
_GOAL = re.compile(r'<(\w+)[^>]*?\s(?:href|src)="?([^"\s>]*)"?')
_ID = re.compile(r'\sid="?([^"\s>]+)"?')
_ELSEWHERE = re.compile(r"^(?:https?:)?//")
LARGEST_PICTURE, ALL_PICTURES = 250_000, 1_500_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a site that was just built; a warning is an error (`strict: true`)."""
    folder = tmp_path_factory.mktemp("site")
    words = [str(Path(sys.executable).with_name("mkdocs")), "build", "--site-dir", str(folder)]
    environ = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environ, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@cache
def ids(page: Path) -> set[str]:
    return {unescape(found) for found in _ID.findall(page.read_text())}


def html(site: Path) -> list[Path]:
    return [page for page in site.rglob("*.html") if page.name != "404.html"]


def test_every_page_is_on_the_site_and_in_its_navigation(site: Path) -> None:
    there = {str(page.relative_to(site)) for page in html(site)}
    navigation = (site / "index.html").read_text().partition('data-md-level="0"')[2].partition("</nav>\n</div>")[0]
    for page in pages():
        name = (
            page.relative_to(ROOT / "docs")
            if page.is_relative_to(ROOT / "docs")
            else Path("project", page.name.lower())
        )
        goal = str(name.with_suffix(".html"))
        assert goal in there
        assert re.search(rf'href="?(?:\./)?{re.escape(goal)}\b', navigation) or goal == "index.html", (
            f"{goal} is in no menu"
        )


def test_every_link_and_picture_of_the_site_leads_somewhere(site: Path) -> None:
    wrong = []
    for page in html(site):
        for tag, goal in _GOAL.findall(page.read_text()):
            if _ELSEWHERE.match(goal) or goal.startswith(("mailto:", "data:")):
                continue
            path, _, anchor = unquote(unescape(goal)).partition("#")
            file = (page.parent / path).resolve() if path else page
            file = file / "index.html" if file.is_dir() else file
            if not file.is_file() or (anchor and file.suffix == ".html" and anchor not in ids(file)):
                wrong.append(f"{page.relative_to(site)}: {tag} {goal}")
    assert not wrong


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = [
        f"{page.relative_to(site)}: {goal}"
        for page in html(site)
        for tag, goal in _GOAL.findall(page.read_text())
        if tag != "a" and _ELSEWHERE.match(goal)
    ]
    assert not loaded
    assert not [file for file in site.rglob("*.css") if re.search(r"url\((?:https?:)?//|@import", file.read_text())]
    assert not [
        file
        for file in site.rglob("*.svg")
        if re.search(r'(?:href|src)=["\']https?:|url\(["\']?https?:', file.read_text())
    ]


def test_every_command_and_option_is_in_the_reference(site: Path) -> None:
    text = unescape((site / "reference" / "commands.html").read_text())
    for name, command in typer.main.get_group(app).commands.items():
        section = text.partition(f'id="understudy-{name}"')[2].partition("<h2")[0]
        assert section
        missing = [
            one for option in command.params for one in option.opts if one.startswith("--") and one not in section
        ]
        assert set(missing) <= {"--help"}


def test_korean_pages_say_so_and_the_switch_leads_to_the_twin(site: Path) -> None:
    for english, korean in (("index.html", "index.ko.html"), ("runbook.html", "runbook.ko.html")):
        pair = [(site / name).read_text() for name in (english, korean)]
        assert ['<html lang="ko"' in text for text in pair] == [False, True]
        for text in pair:
            assert re.search(rf'href="?(?:\./)?{korean}"? hreflang="?ko', text)
            assert re.search(rf'href="?(?:\./)?{english}"? hreflang="?en', text)
    assert re.search(r'href="?(?:\./)?index\.ko\.html"? hreflang="?ko', (site / "drills.html").read_text())


def test_what_is_searched_knows_korean(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text())
    assert index["config"]["lang"] == ["en", "ko"]
    assert any("대기실" in document["text"] for document in index["docs"])


def test_pictures_are_small() -> None:
    sizes = {file.name: file.stat().st_size for file in (ROOT / "docs" / "pictures").iterdir() if file.suffix != ".py"}
    assert max(sizes.values()) <= LARGEST_PICTURE
    assert sum(sizes.values()) <= ALL_PICTURES
