"""Compare stores with what a set holds and recorded, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from understudy.backup.check import check_sums
from understudy.backup.component import Comparison, Component
from understudy.backup.set import BackupSet
from understudy.progress import Progress


def compare_all(backup: BackupSet, components: Sequence[Component], progress: Progress) -> dict[str, Comparison]:
    """Return what each component's store holds against the set, by the component's name; the connections are closed.

    Raises:
        IntegrityError: the set is damaged.
        UnderstudyError: a store cannot be read.
    """
    if components:
        check_sums(backup, progress)
    found = {}
    for component in components:
        try:
            component.connect()
            found[component.name] = component.compare(backup, progress)
        finally:
            component.close()
    return found
