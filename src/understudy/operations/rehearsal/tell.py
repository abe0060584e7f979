"""Tell people of a rehearsal that did not pass, and of the first one that passed after it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from understudy.errors import UnderstudyError
from understudy.operations.audit import Audit
from understudy.operations.deeds import deeds
from understudy.operations.notify import Event, Kind, lines_of, notify
from understudy.progress import Progress
from understudy.settings import Settings


@contextlib.contextmanager
def told(settings: Settings, progress: Progress) -> Iterator[None]:
    """Tell how the rehearsal in this block ended, as a scheduled run does; who cannot be told is a warning."""
    failed_before = _failed_before(settings)
    try:
        yield
    except UnderstudyError as error:
        _tell(settings, progress, "failure", "failed", tuple(lines_of(error)))
        raise
    _tell(settings, progress, "recovery" if failed_before else "success", "passed", ())


def _failed_before(settings: Settings) -> bool:
    try:
        past = deeds(Audit(settings.backup_dir).entries())
    except UnderstudyError:
        return False  # whoever writes to it says so
    ours = [deed for deed in past if deed.action == "rehearse" and deed.profile in {None, settings.profile}]
    return bool(ours) and ours[-1].outcome != "ok"


def _tell(settings: Settings, progress: Progress, kind: Kind, word: str, lines: tuple[str, ...]) -> None:
    for line in notify(settings, Event(kind, "", f"The rehearsal of {settings.profile} {word}", lines)):
        progress.say(f"Warning: {line}")
