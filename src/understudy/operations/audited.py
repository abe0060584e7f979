"""What the commands write into the audit log of BACKUP_DIR."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from understudy.backup.repositories.local import LocalRepository
from understudy.backup.repository import ARCHIVE_SUFFIX, LATEST, find
from understudy.backup.set import SetId
from understudy.errors import UnderstudyError
from understudy.operations.audit import Audit, Record
from understudy.settings import Settings


@contextlib.contextmanager
def recorded(settings: Settings, action: str, components: Sequence[str] = (), *, when: bool = True) -> Iterator[Record]:
    """Write that something began, and how it ended; nothing where `when` is false: a dry run is no deed.

    What fails before BACKUP_DIR is there at all leaves nothing behind, no log either.
    """
    if not when:
        yield Record()
        return
    audit = Audit(settings.backup_dir, profile=settings.profile)
    with audit.recorded(action, components=tuple(map(str, components)), make=False) as record:
        yield record


def set_here(settings: Settings, name: str) -> str | None:
    """Return the id of a set in BACKUP_DIR; None where the name leads elsewhere, for that proves nothing here.

    `name` is what `check` takes: an id, `latest`, a directory or an archive.
    """
    path, local = Path(name), LocalRepository(settings.backup_dir)
    with contextlib.suppress(UnderstudyError, OSError, ValueError):
        if name == LATEST or ("/" not in name and not path.exists()):
            return str(find(local, name, settings.profile, named=settings.backup_name).id)
        if path.resolve().parent == settings.backup_dir.resolve():
            return str(SetId.parse(path.name.removesuffix(ARCHIVE_SUFFIX)))
    return None
