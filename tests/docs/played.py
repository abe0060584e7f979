"""Type what a page shows: its `console` blocks, command after command, each output against what the page says.

Above a block the page may hold lines that nobody sees: `<!-- first: COMMAND -->` is typed before it (to break what the
block mends), and must succeed; `<!-- soak: HOW LONG -->` has `make soak` type it and the suite not; and with
`<!-- not typed: REASON -->` nobody does. A command whose output shows a line `Error: …` must fail, every other one not.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r"(?P<marks>(?:^<!-- [a-z ]+: [^\n]* -->\n)*)^```console\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)
_MARK = re.compile(r"<!-- ([a-z ]+): (.*) -->")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_END = "\x1e"
_OPTIONAL = re.compile(r"\b(curl|jq|redis-cli|age|gunzip|sha256sum|flock)\b")  # what not every machine has
_FAILS = re.compile(r"^(Error|failed): ", re.MULTILINE)
# what differs from run to run: ids, times, hashes, numbers and what they count
_RANDOM = (
    (re.compile(r"=0(?![\d.])"), "=none"),  # the one number that tells
    (re.compile(r'(?<=")(?:[\w-]{1,64}\.)?[\w-]{22}(?=")|(?<=as )[\w-]{22}(?= until)'), "<ticket>"),
    (re.compile(r"\beyJ[\w.-]+…?"), "<token>"),
    (re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}|\d{8}T\d{6}\.\d{3}Z"), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?"), "<time>"),
    (re.compile(r"\b\d(?:[\d,.]*\d)?( ?(ms|s|m|min|h|d|B|KiB|MiB|GiB|TiB)\b)?(?!\w)( \d+ ?(s|m|min|h|d)\b)*"), "<n>"),
    (re.compile(r"\b[0-9a-f]{16,64}\b"), "<hex>"),
    (re.compile(r"(?<= )–(?= |$)"), "<n>"),  # a table's cell without a number
    (re.compile(r"\+(?=<n>)| \(<n> idle\)"), ""),
    (re.compile(r"\b(always worked|works since <n>)$"), "<works>"),
    (re.compile(r"[ \t]+"), " "),
    (re.compile(r"-{3,}"), "---"),
)


@dataclass(frozen=True)
class Step:
    """One command, and the lines that the page shows below it."""

    typed: str
    shown: tuple[str, ...]

    @property
    def fails(self) -> bool:
        """Tell whether the page shows it fail."""
        return "understudy" in self.typed and bool(_FAILS.search("\n".join(self.shown)))


@dataclass(frozen=True)
class Block:
    """A `console` block: under which heading it stands, what is typed before it unseen, and its commands."""

    heading: str
    first: tuple[str, ...]
    steps: tuple[Step, ...]
    soak: str = ""  # how long it takes, where it is for `make soak`
    not_typed: str = ""  # why no test types it

    def lacks(self, path: str) -> set[str]:
        """Return the programs that it needs, that not every machine has, and that are not on this path."""
        typed = "\n".join([*self.first, *(step.typed for step in self.steps)])
        return {word for word in _OPTIONAL.findall(typed) if not shutil.which(word, path=path)}


@dataclass(frozen=True)
class Played:
    """A command that was typed: its exit code and what it wrote."""

    step: Step
    code: int
    wrote: str

    @property
    def wrong(self) -> str | None:
        """Return what differs from the page, or None."""
        told = f"$ {self.step.typed}\n{self.wrote}\n[{self.code}]"
        if self.step.fails != bool(self.code):
            return f"{told}\nit should {'fail' if self.step.fails else 'succeed'}"
        missing = _missing(self.step.shown, self.wrote)
        return f"{told}\nnot written, or not in this order: {missing}" if missing else None


def blocks(text: str) -> list[Block]:
    """Return the `console` blocks of a page, in order."""
    found = []
    for match in _BLOCK.finditer(text):
        heading = [one[1] for one in _HEADING.finditer(text[: match.start()])][-1:] or [""]
        marks = _MARK.findall(match["marks"])
        said = dict(marks)
        assert set(said) <= {"first", "soak", "not typed"}, f"{said} above a block of {heading[0]!r}"
        first = tuple(text for name, text in marks if name == "first")
        steps = tuple(_steps(match["body"]))
        found.append(Block(heading[0], first, steps, said.get("soak", ""), said.get("not typed", "")))
    return found


def _steps(body: str) -> list[Step]:
    found: list[Step] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            found.append(Step(line[2:], ()))
        elif found:
            found[-1] = Step(found[-1].typed, (*found[-1].shown, line))
    return found


def play(block: Block, folder: Path, environ: Mapping[str, str], timeout_s: float = 120) -> list[Played]:
    """Type a block into one shell of its own, with nobody there to answer questions."""
    steps = [Step(text, ()) for text in block.first] + list(block.steps)
    script = "".join(f"{step.typed}\nprintf '{_END}%s{_END}' $?\n" for step in steps)
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=dict(environ), text=True, timeout=timeout_s, check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    words = done.stdout.split(_END)
    found = [
        Played(step, int(code), wrote.strip("\n"))
        for step, wrote, code in zip(steps, words[::2], words[1::2], strict=False)
    ]
    assert len(found) == len(steps), f"the shell ended early: {done.stdout}"
    return found


def _missing(shown: tuple[str, ...], wrote: str) -> str | None:
    """Return the first line of the page that was not written after those before it. `…` in a line is anything."""
    lines = [_plain(line) for line in wrote.splitlines()]
    place = 0
    for line in shown:
        if not line.strip() or line.strip() == "…":
            continue
        pattern = re.compile(".*".join(re.escape(part) for part in _plain(line).split("…")))
        found = next((number for number in range(place, len(lines)) if pattern.fullmatch(lines[number])), None)
        if found is None:
            return line
        place = found + 1
    return None


def _plain(line: str) -> str:
    for pattern, word in _RANDOM:
        line = pattern.sub(word, line)
    return line.strip()
