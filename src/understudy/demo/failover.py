"""What the failover cost, and whether every key survived it, as frozen values and in a line."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from understudy.demo.verdict import Digests, Verdict, judge_failover
from understudy.drill import summary, words
from understudy.drill.findings import ClientFindings, DrillReport, LegFindings
from understudy.pages.figures import precise

JUDGED = "recommended"
"""The client that the verdict is about."""


@dataclass(frozen=True)
class Failover:
    """What the drill found; and the digests before it, as they had been restored, beside those after it."""

    report: DrillReport
    survived: Digests
    functions_same: bool

    @property
    def leg(self) -> LegFindings:
        """Return the findings of the one run."""
        return self.report.legs[0].worst

    @property
    def client(self) -> ClientFindings:
        """Return the client that is judged."""
        return next(one for one in self.leg.clients if one.name == JUDGED)

    @property
    def verdict(self) -> Verdict:
        """Return the verdict on the drill and on what was there after it."""
        return judge_failover(self.report.verdict, self.survived, functions_same=self.functions_same)

    def as_data(self) -> dict[str, Any]:
        """Return it as `--json` prints it: the drill as `understudy drill --json` does."""
        return {
            "drill": summary.as_data(self.report),
            "survived": asdict(self.survived),
            "functions_same": self.functions_same,
        }


def in_brief(leg: LegFindings) -> str:
    """Return what became of a drill, in a line: who was promoted, when the judged client was back, what was lost."""
    client = next(one for one in leg.clients if one.name == JUDGED)
    worst = words.worst_outage(client)
    # A promotion is told as `node-4 is now primary`.
    promoted = next((mark for mark in leg.marks if mark.kind == "promoted" and mark.at_s >= 0), None)
    said = f"{promoted.text.split()[0]} promoted after {precise(promoted.at_s)}" if promoted else "nobody was promoted"
    if worst is None or worst.ended_s is None or not client.recovered:
        said += ", the client not back"
    elif worst.client_s is not None:
        said += f", the client back {precise(worst.client_s)} later"
    else:
        said += f", the client without a success for {precise(worst.gap_s)}"
    data = client.consistency
    lost = f"{'' if data.checked else 'at least '}{data.lost:,} of {data.acknowledged:,} acknowledged writes lost"
    return f"{said}; {lost}"
