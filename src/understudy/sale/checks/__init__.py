"""What must hold of a sale: pure functions from its record to findings. Each file has those about one thing."""

from __future__ import annotations

from understudy.sale.checks import line, seats, state, tickets
from understudy.sale.findings import Finding
from understudy.sale.record import Sale


def check(sale: Sale) -> tuple[Finding, ...]:
    """Return everything that is promised, and how often it was broken.

    What needs the state at the end is left out where that could not be read.
    """
    found = [*seats.check(sale), *tickets.check(sale), *line.check(sale)]
    return (*found, *state.check(sale)) if sale.remains else tuple(found)
