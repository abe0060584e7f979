"""The order of the suite: the tests that take long stand first in two workers' shares, so that none of them ends it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

_WORKERS_THAT_BEGIN_LONG = 2  # long tests wait most of the time: others keep the processors busy meanwhile


def ordered(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """Return the tests in an order whose equal shares, one a worker as `--dist worksteal` makes them, begin so."""
    files: dict[tuple[int, str], list[pytest.Item]] = {}
    others = []
    for item in items:
        if mark := item.get_closest_marker("long"):
            files.setdefault((mark.args[0], str(item.path)), []).append(item)
        else:
            others.append(item)
    firsts: list[list[pytest.Item]] = [[] for _ in range(workers)]
    seconds = [0] * min(workers, _WORKERS_THAT_BEGIN_LONG)
    for (long, _), group in sorted(files.items(), reverse=True):  # a file stays together: its tests share servers
        least = seconds.index(min(seconds))
        firsts[least] += group
        seconds[least] += long
    found: list[pytest.Item] = []
    for number, first in enumerate(firsts):
        share = (len(items) - len(found)) // (workers - number)
        found += first
        taken = max(0, share - len(first))
        found += others[:taken]
        del others[:taken]
    return found + others
