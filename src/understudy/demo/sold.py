"""What the sale, its kill and the clients beside it showed, as frozen values and in a line."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from understudy.demo.bystanders import JUDGED
from understudy.demo.verdict import Digests, Verdict, judge_return, judge_sale
from understudy.drill import summary as drilled
from understudy.drill.findings import ClientFindings, DrillReport, LegFindings
from understudy.pages.figures import count, precise
from understudy.sale import summary as told
from understudy.sale.findings import Mark, Outage, SaleFindings, SaleReport


@dataclass(frozen=True)
class Sold:
    """The sale and the clients beside it; and the digests of the keys that were there before it, compared after it."""

    event: str
    sale: SaleReport
    clients: DrillReport
    survived: Digests
    functions_same: bool

    @property
    def found(self) -> SaleFindings:
        """Return the findings of the one sale."""
        return self.sale.runs[0][0]

    @property
    def leg(self) -> LegFindings:
        """Return the findings about the clients."""
        return self.clients.legs[0].worst

    @property
    def client(self) -> ClientFindings:
        """Return the client that is judged."""
        return next(one for one in self.leg.clients if one.name == JUDGED)

    @property
    def outage(self) -> Outage | None:
        """Return how long nothing was done for any buyer; None where nothing was killed."""
        return next(iter(self.found.outages), None)

    @property
    def came_back(self) -> Verdict:
        """Return the verdict on the first night."""
        return judge_return(self.outage, self.clients.verdict)

    @property
    def kept(self) -> Verdict:
        """Return the verdict on the third night."""
        return judge_sale(self.sale.verdict, self.found.tally, self.survived, functions_same=self.functions_same)

    def as_data(self) -> dict[str, Any]:
        """Return it as `--json` prints it: sale and drill as `understudy drill --json` does."""
        return {
            "event": self.event,
            "report": told.as_data(self.sale),
            "clients": drilled.as_data(self.clients),
            "survived": asdict(self.survived),
            "functions_same": self.functions_same,
        }


def promotion(found: SaleFindings) -> tuple[Mark, float] | None:
    """Return who took over, and so many seconds after the kill; None where nobody was seen to."""
    killed_s = next((one.at_s for one in found.marks if one.kind == "fault"), 0.0)
    taken = next((one for one in found.marks if one.kind == "promoted" and one.at_s >= killed_s), None)
    return (taken, taken.at_s - killed_s) if taken else None


def started_again(found: SaleFindings) -> float | None:
    """Return how many seconds after the kill the demo started the dead server again; None where it did not."""
    at_s = {one.kind: one.at_s for one in reversed(found.marks)}
    return at_s["undone"] - at_s["fault"] if {"undone", "fault"} <= at_s.keys() else None


def in_brief(found: SaleFindings) -> str:
    """Return a sale in a line: how much was sold to how many, who died and took over, how long buyers waited."""
    tally = found.tally
    sold = f"{tally.sold:,} of {count(tally.seats, 'seat')} sold, {count(tally.buyers, 'buyer')}"
    if not found.outages:
        return f"{sold}; nothing was killed"
    took = promotion(found)
    # A promotion is told as `node-4 is now primary`.
    then = f"{took[0].text.split()[0]} promoted after {precise(took[1])}" if took else "nobody was promoted"
    return f"{sold}; {found.outages[0].fault}, {then}; {precise(found.outages[0].gap_s)} without service for buyers"


def judged_in_brief(found: SaleFindings) -> str:
    """Return in a line what was promised to buyers and how much of it was broken."""
    broken = {one.name: one for one in found.findings}
    said = [
        f"{broken[name].broken:,}{f' of {broken[name].of:,}' if of else ''} {what}"
        for name, what, of in (
            ("sold_twice", "seats sold twice", False),
            ("lost", "acknowledged sales lost", True),
            ("forgotten", "tickets lost", True),
        )
        if name in broken
    ]
    return f"{', '.join(said)}; {count(len(broken), 'promise')}, {count(found.tally.requests, 'answer')} looked at"
