"""What the report says of the failover."""

from __future__ import annotations

from typing import Any

from understudy.demo.failover import JUDGED, Failover
from understudy.drill import words
from understudy.drill.findings import ClientFindings
from understudy.drill.report import budget_in_words
from understudy.drill.timeline import timelines
from understudy.pages.figures import count

COLUMNS = ("Client", "Longest outage", "Servers took", "Client added", "Errors", "Writes lost", "Idle connection")
NUMBERS = (1, 2, 3, 4, 5)


def failover_section(failover: Failover) -> dict[str, Any]:
    """Return what the template needs: the headline, the clients side by side, the timeline."""
    client, survived = failover.client, failover.survived
    return {
        "word": failover.verdict.word,
        "headline": words.downtime(client),
        "remark": f"without a success; {_lost(client)}",
        "allowed": budget_in_words(failover.report.budget),
        "columns": COLUMNS,
        "numbers": NUMBERS,
        "clients": [_row(one) for one in failover.leg.clients],
        "timelines": timelines(failover.leg),
        "lost": client.consistency.lost,
        "checks": [
            ("Keys that the failover changed", survived.compared, survived.different),
            ("Keys that it lost, or that are new", survived.compared + survived.missing + survived.extra,
             survived.missing + survived.extra),
        ],
    }  # fmt: skip


def _row(client: ClientFindings) -> tuple[str, ...]:
    worst = words.worst_outage(client)
    return (
        client.name if client.name == JUDGED else f"{client.name} (not judged)",
        words.downtime(client),
        words.duration(worst.promoted_s if worst else None),
        words.duration(worst.client_s if worst else None),
        f"{client.failed + client.indeterminate:,} of {client.operations:,}",
        f"{words.checked(client, client.consistency.lost)} of {client.consistency.acknowledged:,}",
        words.fate(client.idle, client),
    )


def _lost(client: ClientFindings) -> str:
    return f"{words.checked(client, client.consistency.lost)} of {count(client.consistency.acknowledged, 'write')} lost"
