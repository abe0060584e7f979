"""Read the project's Markdown: its pages, the links on them, and the commands that they show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support import repository_root

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_ASSIGNMENT = re.compile(r"[A-Z][A-Z0-9_]*=.*")
_SHELL = ("sh", "console")


@dataclass(frozen=True)
class Shown:
    """A command as a page shows it: the words after `understudy`."""

    page: str
    text: str
    words: tuple[str, ...]


def pages() -> list[Path]:
    root = repository_root()
    return sorted([*root.glob("*.md"), *(root / "docs").rglob("*.md")])


def prose(text: str) -> str:
    """Return a page without its code blocks."""
    return _FENCE.sub("", text)


def blocks(text: str) -> list[str]:
    return [match[0] for match in _FENCE.finditer(text)]


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def anchors(text: str) -> set[str]:
    """Return the names that a page's headings have on the usual hosts."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: Path) -> list[Shown]:
    """Return every command of ours on a page: in shell blocks, and in `inline code`."""
    text = page.read_text()
    lines = [line for kind, body in _FENCE.findall(text) if kind in _SHELL for line in _typed(kind, body)]
    lines += [span for span in _INLINE.findall(prose(text)) if "understudy " in span]
    return [Shown(page.name, line, words) for line in lines for words in _ours(line)]


def _typed(kind: str, body: str) -> Iterator[str]:
    for line in body.splitlines():
        if kind == "sh":
            yield line
        elif line.startswith("$ "):
            yield line[2:]


def _ours(line: str) -> Iterator[tuple[str, ...]]:
    if "understudy" not in line:  # some lines are part of a program that goes over several
        return
    for words in _simple_commands(line):
        while words and _ASSIGNMENT.fullmatch(words[0]):
            words.pop(0)
        if words and words[0].rpartition("/")[2] == "understudy":
            yield tuple(words[1:])


def _simple_commands(line: str) -> Iterator[list[str]]:
    """Give the words of each command of a line, without redirections; what stands in quotes is one word."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    redirected = False
    for word in lexer:
        if not word.strip("<>&") and word[0] in "<>":
            if words and words[-1].isdigit():
                words.pop()
            redirected = True
        elif not word.strip("();|&"):
            yield words
            words, redirected = [], False
        elif redirected:
            redirected = False
        else:
            words.append(word)
    yield words
