"""Sets of PostgreSQL databases, taken and restored inside of a test."""

from __future__ import annotations

from pathlib import Path

from understudy.backup.component import RestoreOptions
from understudy.backup.components.postgres import Format, PostgresComponent
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.set import BackupSet
from understudy.backup.take import take
from understudy.lab.servers.postgres import ScratchPostgres
from understudy.progress import Silent


def taken(server: ScratchPostgres, directory: Path, *databases: str, form: Format = "custom") -> BackupSet:
    """Back databases up."""
    component = PostgresComponent(server.url(databases[0]), databases=databases, format=form)
    try:
        return take([component], LocalRepository(directory), None, "local", Silent()).backup
    finally:
        component.close()


def restored(component: PostgresComponent, backup: BackupSet, options: RestoreOptions | None = None) -> list[str]:
    """Check the target, restore, and return what failed."""
    try:
        component.connect()
        component.check_target(backup, options or RestoreOptions())
        return component.restore(backup, options or RestoreOptions(), Silent()).failures
    finally:
        component.close()
