"""A place in which the pages' commands are typed: a directory, a state directory, and ports of its own."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from docs.played import Block, blocks, play
from understudy.lab import named, state
from understudy.lab.ports import claim

SECRET = "a-secret-for-the-pages"
OURS = re.compile(
    r"(REDIS|BACKUP|POSTGRES|DATABASE|QDRANT|SCHEDULE|REHEARSE|AWS|PG|ENV|S3|DAILY|RETENTION|WAITINGROOM|PROBE|DRILL)_?\w*"
)
_FILE = re.compile(r"`([\w.-]+\.(?:py|toml))`[^`\n]*:\n\n```(?:python|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# what a person does with their eyes: take the ticket and the token out of an answer, and end a stream that goes on
_PRELUDE = r"""
curl() {
    local answer=.answer.$BASHPID code=0 limit=15 ticket token
    case "$*" in *updates*) limit=3; esac
    command curl --max-time "$limit" "$@" > "$answer" || code=$?
    cat "$answer"
    ticket=$(sed -n 's/^{"ticket":"\([^"]*\)".*/\1/p' "$answer")
    token=$(sed -n 's/.*"token":"\([^"]*\)".*/\1/p' "$answer")
    [ -z "$ticket" ] || echo "TICKET=$ticket" >> .kept
    [ -z "$token" ] || echo "TOKEN=$token" >> .kept
    [ ! -e .kept ] || . ./.kept
    [ -z "$ticket" ] || sleep 1.2  # until the gateway has looked
    [ "$code" = 28 ] && code=0
    return $code
}
redis-cli() { command redis-cli --no-raw "$@"; }  # as on a terminal
[ ! -e .kept ] || . ./.kept
"""


@dataclass
class Bench:
    """`swaps` maps what the pages show (ports, mostly) to what it is here."""

    folder: Path
    environ: dict[str, str]
    swaps: dict[str, str] = field(default_factory=dict)

    def here(self, text: str) -> str:
        """Return a page's text with the addresses of this place."""
        cluster = self.swaps.get("7001")
        text = re.sub(r"understudy up cluster$", f"understudy up cluster --port {cluster}", text, flags=re.MULTILINE)
        shown = "|".join(map(re.escape, self.swaps)) or "$^"
        return re.sub(rf"(?<![a-zA-Z0-9,.])({shown})(?![a-zA-Z0-9])", lambda one: self.swaps[one[0]], text)

    def type(self, page: Path, *headings: str, soak: bool = False) -> list[str]:
        """Type a page's blocks, or those below some headings; return what was not as it shows."""
        text = self.here(page.read_text())
        for name in {name for name, _ in _FILE.findall(text)}:
            (self.folder / name).write_text("\n".join(body for one, body in _FILE.findall(text) if one == name))
        wrong = []
        for block in blocks(text):
            if (block.heading in headings or not headings) and self.can(block, soak):
                played = play(block, self.folder, self.environ, timeout_s=600 if soak else 150)
                wrong += [f"{page.name}, {block.heading}\n{one.wrong}" for one in played if one.wrong]
        return wrong

    def can(self, block: Block, soak: bool) -> bool:
        if block.not_typed or (block.soak and not soak):
            return False
        return not block.lacks(self.environ["PATH"])


@contextmanager
def bench(folder: Path, *groups: tuple[int, tuple[int, ...]]) -> Iterator[Bench]:
    """Claim ports for those that the pages show: each group is a first port, and the distances of the others to it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prelude.sh").write_text(_PRELUDE)
    (folder / "secret").write_text(SECRET)
    environ = {name: value for name, value in os.environ.items() if not OURS.fullmatch(name)}
    environ |= {"UNDERSTUDY_HOME": str(folder / "home"), "COLUMNS": "220", "BASH_ENV": str(folder / "prelude.sh")}
    environ |= {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    environ |= {"WAITINGROOM_SECRET": SECRET}
    made = Bench(folder, environ)
    claimed = []
    try:
        for first, distances in groups:
            buses = [10_000 + one for one in distances if len(distances) > 1]
            block = claim([*distances, *buses])
            claimed.append(block)
            made.swaps |= {str(first + one): str(block.first + one) for one in distances}
        yield made
    finally:
        with pytest.MonkeyPatch.context() as patch:  # a page need not end what it starts
            patch.setenv("UNDERSTUDY_HOME", environ["UNDERSTUDY_HOME"])
            for name in state.names():
                named.clean(name, force=True)
        for block in claimed:
            block.release()
