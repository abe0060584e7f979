"""What is to be sold to whom, and what goes wrong meanwhile: decided before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from understudy.drill.faults import find_fault
from understudy.errors import UsageError

GATEWAY = "gateway"
NONE = "none"
_FAULTS = {
    "standalone": ("pause", GATEWAY),
    "sentinel": ("kill", "pause", "failover", "partition", GATEWAY),
    "cluster": ("kill", "pause", "failover", "partition", GATEWAY),
    "enterprise": ("kill", "pause", "failover", GATEWAY),
}
# replicas that a primary has in the lab; the endpoint of `enterprise` does not pass WAIT on
REPLICAS = {"standalone": 0, "sentinel": 2, "cluster": 1, "enterprise": 0}
_KEEPS_ALL = frozenset({"failover", "slow", "migrate", "kill-clients", "full-memory", GATEWAY})
_ABOUT_S = {"kill": 11.0, "pause": 11.0, "failover": 10.0, "partition": 10.0, GATEWAY: 4.0}
_SENTINELS_TAKE_S = {"kill": 15.0, "pause": 16.0, "partition": 13.0}  # more, until all servers agree again
_BOUGHT = 0.85  # seats that one who enters buys, on average; measured


@dataclass(frozen=True)
class SalePlan:
    """A sale. Times are seconds. `hold_fault_s` is how long a fault lasts, `settle_s` the time between two."""

    layout: str
    faults: tuple[str, ...]
    buyers: int = 5000
    seats: int = 500
    replicas: int = 0
    gateways: int = 2
    seed: int = 0
    before_s: float = 5.0
    hold_fault_s: float = 6.0
    settle_s: float = 3.0
    hold_ttl_s: float = 15.0
    entry_ttl_s: float = 20.0
    abandon_after_s: float = 30.0
    finish_within_s: float = 90.0

    @property
    def about_s(self) -> float:
        """Return how long selling goes on before the line is let in, roughly."""
        more_s = _SENTINELS_TAKE_S if self.layout == "sentinel" else {}
        each = (_ABOUT_S.get(one, 10.0) + more_s.get(one, 0.0) + self.settle_s for one in self.faults)
        return self.before_s + sum(each)

    @property
    def settings(self) -> dict[str, Any]:
        """Return the event's settings: the rate is such that seats are sold all the time that faults take."""
        return {
            "rate_per_s": max(1.0, round(self.seats / _BOUGHT / self.about_s, 1)),
            "burst": 0,
            "hold_ttl_s": self.hold_ttl_s,
            "entry_ttl_s": self.entry_ttl_s,
            "session_ttl_s": 120.0,
            "abandon_after_s": self.abandon_after_s,
            "dedupe_ttl_s": 600.0,
            "seats_per_ticket": 4,
            "tickets_per_user": 1,
        }

    @property
    def rush_rate_per_s(self) -> float:
        """Return the rate at which those who still wait are let in at the end."""
        return max(50.0, self.buyers / 15)

    @property
    def loses(self) -> bool:
        """Return whether a fault may cost what no replica had."""
        return any(one not in _KEEPS_ALL for one in self.faults)


def plan_for(
    layout: str = "cluster", faults: Sequence[str] = (), replicas: int | None = None, **others: Any
) -> SalePlan:
    """Return a plan; without faults the layout's usual ones, and without a number all replicas acknowledge.

    Raises:
        UsageError: the layout has none of that kind, or not so many replicas.
    """
    if layout not in REPLICAS:
        raise UsageError(f"planning a sale on {layout!r}", "there is no such layout", f"One of: {', '.join(REPLICAS)}.")
    most = REPLICAS[layout]
    replicas = most if replicas is None else replicas
    if replicas > most:
        raise UsageError(
            f"having {replicas} replicas acknowledge", f"the layout {layout} lets {most} do so", f"--replicas {most}"
        )
    chosen = [one for one in (faults or _FAULTS[layout]) if one != NONE]
    for one in chosen:
        if one != GATEWAY:
            find_fault(kind_in(layout, one), layout)
    return SalePlan(layout, tuple(chosen), replicas=replicas, **others)


def kind_in(layout: str, fault: str) -> str:
    """Return the fault as the layout calls it: sentinels fail over in their own way."""
    return "sentinel-failover" if layout == "sentinel" and fault == "failover" else fault
