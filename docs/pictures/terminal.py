"""A terminal's picture: a command is typed in a pseudo-terminal; what it wrote becomes an SVG without foreign fonts."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

_FONTS = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace'
_FORMAT = re.sub(r"@font-face \{\{.*?\n    \}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
_FORMAT = _FORMAT.replace("Fira Code, monospace", _FONTS).replace("font-family: arial", "font-family: sans-serif")
_BAR = re.compile(r"\x1b\[\?25l.*?(\x1b\[\?25h|\Z)", re.DOTALL)  # progress that is drawn over and over
_THEME = TerminalTheme(
    (22, 27, 34), (214, 220, 228),
    [(72, 79, 88), (240, 113, 103), (98, 196, 110), (219, 178, 80),
     (110, 168, 254), (196, 148, 245), (86, 204, 216), (214, 220, 228)],
    [(110, 118, 129), (255, 148, 138), (126, 217, 137), (238, 203, 110),
     (148, 194, 255), (214, 176, 255), (120, 224, 234), (255, 255, 255)],
)  # fmt: skip


def typed(words: Sequence[str], env: Mapping[str, str], folder: Path, width: int) -> list[tuple[float, str]]:
    """Type a command; return each line that it wrote, and the seconds after which it stood there."""
    ours, theirs = pty.openpty()
    env = {**os.environ, **env, "COLUMNS": str(width), "LINES": "50", "TERM": "xterm-256color"}
    began = time.monotonic()
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=env, close_fds=True)
    os.close(theirs)
    wrote, marks = "", [(0, 0.0)]
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # the other end was closed
            break
        wrote += data.decode(errors="replace")
        marks.append((len(wrote), time.monotonic() - began))
    os.close(ours)
    process.wait()
    found, place = [], 0
    clean = _BAR.sub(lambda bar: "\x00" * len(bar[0]), wrote)
    for line in clean.splitlines(keepends=True):
        place += len(line)
        text = line.replace("\x00", "").rstrip("\r\n").rpartition("\r")[2]
        if text or not line.strip("\r\n"):
            found.append((next(at for length, at in marks if length >= place), text))
    return found


def picture(
    file: Path, shown: Sequence[tuple[str, Sequence[tuple[float, str]]]], width: int, plays_s: float | None = None
) -> None:
    """Draw commands with what they wrote; with `plays_s` the lines come one after another as they did,
    all within so many seconds."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    times = []
    before = 0.0
    for command, lines in shown:
        console.print(Text("$ ", "bold green") + Text(command, "bold"))
        times.append(before)
        for at, line in lines:
            text = Text.from_ansi(line)
            for row in text.wrap(console, width) or [text]:
                console.print(row, overflow="crop", no_wrap=True)
                times.append(before + at)
        before = times[-1]
    svg = console.export_svg(title="", theme=_THEME, code_format=_FORMAT, unique_id="t")
    file.write_text(_played(svg, times, times[-1] / plays_s) if plays_s else svg)


def _played(svg: str, times: Sequence[float], faster: float) -> str:
    def delayed(match: re.Match[str]) -> str:
        at = times[int(match[1])] if int(match[1]) < len(times) else times[-1]
        return f'{match[0]} style="animation-delay:{0.3 + at / faster:.2f}s"'

    svg = re.sub(r'clip-path="url\(#t-line-(\d+)\)"', delayed, svg)
    moving = ".t-matrix text{animation:t 1ms both}@keyframes t{from{opacity:0}to{opacity:1}}"
    still = "@media (prefers-reduced-motion:reduce){.t-matrix text{animation:none}}"
    return svg.replace("</style>", f"{moving}{still}</style>", 1)
