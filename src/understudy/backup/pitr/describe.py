"""What people and programs read of an archive: its windows and its gaps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from understudy.backup.pitr.catalog import Archive
from understudy.backup.pitr.when import length, told
from understudy.backup.pitr.windows import Gap

_MOST_GAPS = 3  # in one line; `list --archive` has all


def in_one_line(archive: Archive) -> str:
    """Return `archive NAME: FROM to UNTIL (4 h 3 min), gaps: …`: the last few gaps, and how many there are."""
    windows = archive.windows
    if not windows.spans:
        return f"archive {archive.name}: nothing can be restored yet"
    first, last = windows.spans[0].first, windows.spans[-1].last
    line = f"archive {archive.name}: {told(first)} to {told(last)} ({length(last - first + 1)})"
    if not windows.gaps:
        return f"{line}, no gaps"
    shown = [f"{told(gap.first)} to {told(gap.last)} ({_gap(gap)})" for gap in windows.gaps[-_MOST_GAPS:]]
    more = len(windows.gaps) - len(shown)
    return f"{line}, gaps: {'; '.join(shown)}" + (f"; and {more:,} before: understudy list --archive" if more else "")


def in_full(archive: Archive) -> Iterator[str]:
    """Yield a line for each window and each gap, oldest first, as tab-separated fields."""
    windows = archive.windows
    rows = [(span.first, span.last, "window", "") for span in windows.spans]
    rows += [(gap.first, gap.last, "gap", "; ".join(gap.why)) for gap in windows.gaps]
    for first, last, what, why in sorted(rows):
        fields = (archive.name, what, told(first), told(last), length(last - first + 1), why)
        yield "\t".join(fields).rstrip()


def as_data(archive: Archive) -> dict[str, Any]:
    """Return the same as data."""
    windows = archive.windows
    return {
        "name": archive.name,
        "windows": [_data(span.first, span.last) for span in windows.spans],
        "gaps": [_data(gap.first, gap.last) | {"why": [*gap.why]} for gap in windows.gaps],
        "streams": len(archive.streams),
        "bytes": sum(sum(stream.sizes.values()) for stream in archive.streams),
        "problems": [*archive.problems],
    }


def _gap(gap: Gap) -> str:
    return f"{length(gap.last - gap.first + 1)}: {'; '.join(gap.why)}"


def _data(first: int, last: int) -> dict[str, Any]:
    return {"from": told(first), "until": told(last), "seconds": last - first + 1}
