"""A terminal's picture: a command is typed in a pseudo-terminal; what it wrote becomes an SVG without foreign fonts."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
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


def typed(words: Sequence[str], env: Mapping[str, str], folder: Path, width: int) -> list[str]:
    """Type a command; return each line that it wrote."""
    ours, theirs = pty.openpty()
    env = {**os.environ, **env, "COLUMNS": str(width), "LINES": "50", "TERM": "xterm-256color"}
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=env, close_fds=True)
    os.close(theirs)
    wrote = ""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # the other end was closed
            break
        wrote += data.decode(errors="replace")
    os.close(ours)
    process.wait()
    found = []
    clean = _BAR.sub("\x00", wrote)
    for line in clean.splitlines(keepends=True):
        text = line.replace("\x00", "").rstrip("\r\n").rpartition("\r")[2]
        if text or not line.strip("\r\n"):
            found.append(text)
    return found


def picture(file: Path, shown: Sequence[tuple[str, Sequence[str]]], width: int) -> None:
    """Draw commands with what they wrote."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for command, lines in shown:
        console.print(Text("$ ", "bold green") + Text(command, "bold"))
        for line in lines:
            text = Text.from_ansi(line)
            for row in text.wrap(console, width) or [text]:
                console.print(row, overflow="crop", no_wrap=True)
    file.write_text(console.export_svg(title="", theme=_THEME, code_format=_FORMAT, unique_id="t"))
