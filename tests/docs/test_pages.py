"""What the pages say can be followed and typed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from docs.markdown import Shown, anchors, blocks, commands, links, pages
from support import repository_root
from understudy.cli import output
from understudy.cli.main import app

ROOT = repository_root()
SHOWN = [shown for page in pages() for shown in commands(page)]
COMMANDS = typer.main.get_group(app).commands
UsageProblem = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")
MAKEFILE = (ROOT / "Makefile").read_text()


def wrong_links(page: Path) -> list[str]:
    wrong = []
    for link in links(page.read_text()):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        goal = page.parent / path if path else page
        if not goal.exists() or (anchor and anchor not in anchors(goal.read_text())):
            wrong.append(link)
    return wrong


def parse(words: tuple[str, ...]) -> None:
    """Parse what was typed, as the command would; nothing is run. A verb alone is a name that is mentioned."""
    verb, *arguments = words
    assert verb in COMMANDS, f"there is no command {verb}"
    if not arguments:
        return
    try:
        COMMANDS[verb].make_context(verb, arguments)
    finally:
        output._wanted["json"] = False  # what `--json` left behind


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert not wrong_links(page)


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: f"{shown.page}: {shown.text[:60]}")
def test_every_command_shown_can_be_typed(shown: Shown) -> None:
    parse(shown.words)


def test_the_pages_show_every_command() -> None:
    for page in ("README.md", "README.ko.md"):
        assert {shown.words[0] for shown in SHOWN if shown.page == page} == set(COMMANDS)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_named_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", MAKEFILE, re.MULTILINE))
    later = {"build-backup-tool"}  # comes with the image
    named = set(re.findall(r"(?:^|`|&& )make ([a-z][a-z0-9-]+)", page.read_text(), re.MULTILINE))
    assert not named - targets - later


@pytest.mark.parametrize("page", ["README", "docs/index"])
def test_english_and_korean_show_the_same(page: str) -> None:
    english, korean = ((ROOT / f"{page}{end}").read_text() for end in (".md", ".ko.md"))
    name = page.rpartition("/")[2]
    assert blocks(english) == blocks(korean)
    assert [re.sub(r"[^#].*", "", line) for line in english.splitlines() if line.startswith("#")] == [
        re.sub(r"[^#].*", "", line) for line in korean.splitlines() if line.startswith("#")
    ]
    assert english.count("\n| ") == korean.count("\n| ")
    ours = {f"{name}.md", f"{name}.ko.md"}
    goals = [{link.replace("runbook.ko.md", "runbook.md") for link in links(text)} - ours for text in (english, korean)]
    assert goals[0] == goals[1]


def test_wrong_links_and_commands_are_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One\n[a](#one) [b](#two) [c](nowhere.md) [d](https://example.com)\n"
        "`understudy list --nothing`\n```sh\nA=1 understudy up cluster --port many\n```\n```console\n"
        "$ understudy verify --sample 0 && understudy list --local | head\nunderstudy is not typed here\n```\n"
    )
    assert wrong_links(page) == ["#two", "nowhere.md"]
    found = commands(page)
    assert [shown.words[0] for shown in found] == ["up", "verify", "list", "list"]
    for shown, fits in zip(found, (False, False, True, False), strict=True):
        if fits:
            parse(shown.words)
        else:
            with pytest.raises(UsageProblem):
                parse(shown.words)
