"""What a recovery test leaves behind when whoever asked hangs up: its keys are removed soon, not when they expire."""

from __future__ import annotations

import time
from contextlib import suppress

from understudy.probe.connection import CLIENT_ERRORS, Connection
from understudy.probe.plan import Plan
from understudy.probe.tries import Tries

_QUIET_WITHIN_S = 10.0
_REMOVED_WITHIN_S = 20.0


def remove(connection: Connection, plan: Plan, tries: Tries) -> None:
    """Remove the keys once no try writes any longer; what cannot be removed in time expires by itself."""
    tries.end()
    tries.until_quiet(_QUIET_WITHIN_S)
    ends = time.monotonic() + _REMOVED_WITHIN_S
    with suppress(*CLIENT_ERRORS), connection.fresh() as client:
        for key in plan.keys:
            if time.monotonic() > ends:
                return
            with suppress(*CLIENT_ERRORS):
                client.delete(key)
