"""What a server wrote to its log about what it would not do."""

from __future__ import annotations

import re
from pathlib import Path

_MOST_LOG_BYTES = 1 << 16
_NOISE = (
    "Guru Meditation", "DB reloaded", "User requested", "Ready to accept", "Server initialized", "overcommit",
    "successfully loaded",
)  # fmt: skip
_COMPLAINT = re.compile(
    r"error|can't|cannot|fatal|wrong|corrupt|unknown|foreign|newer|mismatch|module|more than|duplicate|invalid|denied"
    r"|unexpected",
    re.IGNORECASE,
)
_REPORT = re.compile(r"=== (?:REDIS|VALKEY) BUG REPORT START")


def said(log: Path, since: int = 0) -> str:
    """Return what a server wrote since its log had so many bytes, at most the last 64 KiB of it."""
    with log.open("rb") as file:
        file.seek(max(since, log.stat().st_size - _MOST_LOG_BYTES))
        return file.read().decode(errors="replace")


def complaint(log: Path, since: int = 0) -> str:
    """Return what it complained of, the last three complaints in one line."""
    text = _REPORT.split(said(log, since), maxsplit=1)[0]  # what follows tells of the server, not of its data
    lines = [re.split(r" [*#.-] ", line, maxsplit=1)[-1].strip() for line in text.splitlines()]
    wanted = [line for line in lines if _COMPLAINT.search(line) and not any(noise in line for noise in _NOISE)]
    return "; ".join(dict.fromkeys(wanted[-3:])) or "its log does not say why"
