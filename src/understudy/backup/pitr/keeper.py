"""What has to be done in the repository now and then: the lock said again, and streams deleted that are too old."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from understudy.backup.pitr.lease import RENEW_S, Lease
from understudy.backup.pitr.meter import Troubles
from understudy.backup.pitr.objects import Objects
from understudy.backup.pitr.retention import Kept, delete, expired, survey
from understudy.errors import RefusedError, UnderstudyError

_DELETE_EVERY_S = 3600.0


class Keeper:
    """Does it in a thread of its own while the block runs. `bug` is what ended it: a lost lock, for example."""

    def __init__(
        self,
        objects: Objects,
        root: str,
        lease: Lease,
        keep_days: float,
        before: Sequence[Kept],
        live: Callable[[], set[str]],
        healthy: Callable[[], bool],
        troubles: Troubles,
        delete_every_s: float = _DELETE_EVERY_S,
    ) -> None:
        self.bug: BaseException | None = None
        self._objects, self._root, self._lease, self._keep_days = objects, root, lease, keep_days
        self._live, self._healthy, self._troubles, self._every_s = live, healthy, troubles, delete_every_s
        # those that ended are not looked at again
        self._ended = {one.id: one for one in before}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keep-archive", daemon=True)

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._over.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        deleted_at = time.monotonic() - self._every_s + min(60.0, self._every_s)
        try:
            while not self._over.wait(min(self._every_s, RENEW_S)):
                self._attempt("the lock", self._lease.renew)
                if time.monotonic() - deleted_at >= self._every_s and self._healthy():
                    self._attempt("retention", self.delete)
                    deleted_at = time.monotonic()
        except BaseException as error:  # noqa: BLE001 - raised again by whoever started us
            self.bug = error

    def _attempt(self, what: str, act: Callable[[], object]) -> None:
        try:
            act()
        except RefusedError:
            raise
        except UnderstudyError as error:
            self._troubles.have(what, error)
        else:
            self._troubles.over(what)

    def delete(self) -> None:
        """Delete what is too old."""
        live = self._live()
        found = survey(self._objects, self._root, [*self._ended, *live])
        self._ended |= {one.id: one for one in found if one.ended is not None}
        known = {**self._ended, **{one.id: one for one in found}}
        for name in expired(list(known.values()), live, int(time.time() * 1000), self._keep_days, self._healthy()):
            delete(self._objects, self._root, name)
            self._ended.pop(name, None)
