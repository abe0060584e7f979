"""Findings in words: one way to say a number, for the terminal and the page."""

from __future__ import annotations

from understudy.drill.findings import ClientFindings, Life, Outage, Spread
from understudy.pages.figures import precise

NONE = "–"
"""What stands where there is no number."""


STUCK = "stuck until restart"
BROKEN = "not working at the end"


def duration(number_s: float | None) -> str:
    """Return a duration, as `2.51 s`."""
    return NONE if number_s is None else precise(number_s)


def moment(at_s: float | None) -> str:
    """Return a moment relative to the fault, as `+2.50 s`."""
    return NONE if at_s is None else f"{at_s:+.2f} s"


def milliseconds(number: float | None) -> str:
    """Return a latency, as `0.8 ms` or `5,012 ms`."""
    return NONE if number is None else f"{number:,.1f} ms" if number < 100 else f"{number:,.0f} ms"


def worst_outage(client: ClientFindings) -> Outage | None:
    """Return the longest outage of any shard."""
    return max(client.outages, key=lambda one: one.gap_s, default=None)


def downtime(client: ClientFindings) -> str:
    """Return how long a client was down, and whether it still was at the end."""
    worst = worst_outage(client)
    if worst is None:
        return NONE
    return f"{precise(worst.gap_s)}{'' if worst.ended_s is not None else ', to the end'}"


def back(client: ClientFindings) -> str:
    """Return when all shards were well again for good."""
    if not client.outages:
        return NONE
    if not client.busy.recovered:
        return "never"
    well = [one.sustained_s for one in client.outages if one.sustained_s is not None]
    return moment(max(well)) if len(well) == len(client.outages) else "failed last"


def fate(life: Life | None, client: ClientFindings) -> str:
    """Return what became of an idle or fresh connection, in plain words."""
    if life is None:
        return NONE
    if not life.tried:
        return "not tried"
    if not life.recovered:
        return STUCK if client.stuck and life is not client.fresh else BROKEN
    if life.succeeded == life.tried:
        return "always worked"
    return "works, with errors" if life.back_s is None else f"works since {moment(life.back_s)}"


def errors(client: ClientFindings) -> str:
    """Return how many operations did not succeed, and how many of them were the idle connection's after the fault."""
    idle = client.idle.tried - client.idle.succeeded if client.idle else 0
    return f"{client.failed + client.indeterminate:,}{f' ({idle:,} idle)' if idle else ''}"


def errors_by_life(client: ClientFindings) -> str:
    """Return how many operations of each connection did not succeed after the fault, as `8 / 280 / –`."""
    lives = (client.busy, client.idle, client.fresh)
    return " / ".join(NONE if life is None else f"{life.tried - life.succeeded:,}" for life in lives)


def checked(client: ClientFindings, number: int) -> str:
    """Return a count of what was found at the end; where not all could be read it is the least that there was."""
    return f"{number:,}" if client.consistency.checked else f"≥ {number:,}" if number else "not known"


def spread(found: Spread | None, *, whole: bool = False) -> str:
    """Return the least, the middle and the greatest."""
    if found is None:
        return NONE
    each = (found.least, found.median, found.most)
    return " / ".join(f"{number:,g}" if whole else precise(number) for number in each)
