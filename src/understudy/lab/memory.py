"""How much memory there is for one more server, as far as the system tells."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path


def available_bytes(root: Path = Path("/")) -> int | None:
    """Return what a new process can take without pushing others out: of the machine, or of our container.

    None where the system does not tell (macOS). `root` is where `proc` and `sys` are.
    """
    found = [*_of_machine(root / "proc/meminfo"), *_of_groups(root)]
    return max(0, min(found)) if found else None


def _of_machine(path: Path) -> Iterator[int]:
    with contextlib.suppress(OSError):
        if match := re.search(r"^MemAvailable:\s+(\d+) kB", path.read_text(), re.MULTILINE):
            yield int(match[1]) << 10


def _of_groups(root: Path) -> Iterator[int]:
    """Yield what each control group above us still allows; cached files in it can go."""
    groups = root / "sys/fs/cgroup"
    with contextlib.suppress(OSError):
        ours = (root / "proc/self/cgroup").read_text()
        if match := re.search(r"^0::(/.*)$", ours, re.MULTILINE):
            place = groups / match[1].strip("/")
            for folder in (place, *place.parents):
                yield from _left(folder, "memory.max", "memory.current", "inactive_file")
                if folder == groups:
                    break
    yield from _left(groups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _left(folder: Path, limit: str, used: str, cached: str) -> Iterator[int]:
    with contextlib.suppress(OSError, ValueError):  # "max", and a group without a limit
        most, now = int((folder / limit).read_text()), int((folder / used).read_text())
        match = re.search(rf"^{cached} (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
        yield most - now + (int(match[1]) if match else 0)
