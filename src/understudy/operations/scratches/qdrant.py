"""The Qdrant of REHEARSE_QDRANT_URL for a rehearsal: it must be empty before, and is emptied of what we made after."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from understudy.backup.components.qdrant import QdrantComponent
from understudy.backup.qdrant.names import in_url, shown
from understudy.backup.qdrant.recorded import Recorded
from understudy.backup.qdrant.wire import Wire
from understudy.backup.set import BackupSet
from understudy.errors import NotFoundError, RefusedError, UnderstudyError, UsageError
from understudy.operations.rehearsal.checks import Check
from understudy.operations.scratch import NoScratchError, Scratch
from understudy.settings import Settings


def refuse(backup: BackupSet, settings: Settings) -> None:  # noqa: ARG001 - the shape of every scratch
    """Refuse a Qdrant that holds anything. One that does not answer is told later, as a component not rehearsed."""
    if not settings.rehearse_qdrant_url:
        return
    component = _component(settings)
    with contextlib.closing(component):
        try:
            component.connect()
            names = component.cluster.first.collections()
        except UnderstudyError:
            return
    if names:
        raise RefusedError(
            "rehearsing qdrant", f"the Qdrant of REHEARSE_QDRANT_URL is not empty: it holds {shown(names[0])}",
            "Name an empty one. If an interrupted rehearsal left that, delete these collections.", names,
        )  # fmt: skip


@contextlib.contextmanager
def scratch(backup: BackupSet, settings: Settings) -> Iterator[Scratch]:
    """Use the Qdrant that is named; delete the set's collections when the block ends."""
    if not settings.rehearse_qdrant_url:
        raise NoScratchError("REHEARSE_QDRANT_URL names no Qdrant that may be filled and emptied")
    refuse(backup, settings)
    url = settings.rehearse_qdrant_url.split(",")[0].strip()
    secret = settings.rehearse_qdrant_api_key
    key = secret.get_secret_value() if secret else None
    made = [collection.name for collection in Recorded.of(backup).collections]
    addresses = {"QDRANT_URL": url} | ({"QDRANT_API_KEY": key} if key else {})
    component = _component(settings)
    with contextlib.closing(component):
        component.connect()
        try:
            yield Scratch(
                component, f"Qdrant {component.cluster.first.version}, given for it", lambda _: addresses,
                (key,) if key else (), _ask,
            )  # fmt: skip
        finally:
            _empty(url, key, made)


def _component(settings: Settings) -> QdrantComponent:
    given = {
        "qdrant_url": settings.rehearse_qdrant_url, "qdrant_api_key": settings.rehearse_qdrant_api_key,
        "qdrant_collections": (),
    }  # fmt: skip
    return QdrantComponent.from_settings(settings.model_copy(update=given))


def _empty(url: str, key: str | None, names: list[str]) -> None:
    """Delete what the rehearsal made; the server was empty before, so that these are ours."""
    with contextlib.closing(Wire(url, key)) as wire:
        for name in names:
            with contextlib.suppress(NotFoundError):
                wire.ask("DELETE", f"collections/{in_url(name)}", f"deleting {shown(name)} after the rehearsal")


def _ask(check: Check) -> Any:
    raise UsageError(f"asking Qdrant for the check {check.name!r}", "it takes no questions", "Use run.")
