"""Which runs did not happen: the times at which cron was due, against the runs that the audit log knows."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime, timedelta

from understudy.operations.crontime import CronTime

EARLY = timedelta(minutes=10)  # a clock that is set back a little makes a run seem to begin before it was due
GRACE = timedelta(hours=2, minutes=30)  # a run may wait two hours for another; a machine may be busy
_LONGEST_LOOK = timedelta(days=400)


def missed(time: CronTime, installed: datetime, runs: Sequence[datetime], now: datetime) -> list[datetime]:
    """Return the instants (UTC) between the installation and now at which a run was due and none began.

    A run (by hand or by the schedule; however it ended) counts for the last due time before it. So a run that is late,
    or one that systemd makes up for when the machine is on again, is not missed, but those before it are. What is due
    for less than `GRACE` may still come. A clock that was set back before the installation shows nothing as missed.
    """
    since = max(installed, now - _LONGEST_LOOK)
    due = list(time.due(since, now))
    began = sorted(runs)
    found = []
    for place, one in enumerate(due):
        end = due[place + 1] - EARLY if place + 1 < len(due) else now + EARLY
        first = bisect_left(began, one - EARLY)
        came = first < len(began) and began[first] < max(end, one)
        if not came and now - one > GRACE:
            found.append(one)
    return found
