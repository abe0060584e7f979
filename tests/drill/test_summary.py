"""The terminal's table and the JSON say the same as the findings."""

from __future__ import annotations

import json
from dataclasses import replace

from reports import leg, matrix, measured, report
from understudy.drill.summary import DATA_VERSION, as_data, summarize


def test_there_is_a_row_for_each_client_of_each_leg() -> None:
    found = summarize(matrix())
    assert [row[:3] for row in found.rows][:4] == [
        ("cluster", "recommended", "passed"),
        ("cluster", "naive", "–"),
        ("sentinel", "recommended", "failed"),
        ("sentinel", "naive", "–"),
    ]
    assert all(len(row) == len(found.header) for row in found.rows)
    assert set(found.right) <= set(found.header)
    row = dict(zip(found.header, found.rows[3], strict=True))
    assert (row["downtime"], row["servers"], row["lost"], row["idle"]) == (
        "12.03 s",
        "2.43 s",
        "40",
        "stuck until restart",
    )


def test_errors_of_the_idle_connection_are_told_apart() -> None:
    found = measured()
    recommended, naive = found.clients
    assert naive.idle
    idle = replace(naive.idle, tried=280, succeeded=0)
    shown = summarize(
        report(leg([replace(found, clients=(recommended, replace(naive, failed=280, indeterminate=3, idle=idle)))]))
    )
    errors = [dict(zip(shown.header, row, strict=True))["errors"] for row in shown.rows]
    assert errors == [f"{recommended.failed + recommended.indeterminate:,}", "283 (280 idle)"]


def test_the_verdict_and_its_reasons_follow() -> None:
    lines = summarize(matrix()).lines
    assert lines[:2] == (
        "failed: kill-primary",
        "  sentinel: recommended: shard 1 was without a success for 6.35 s; 5 s are allowed.",
    )
    assert any("cluster, naive: 3 runs, downtime 8.82 s / 9.42 s / 15.13 s, lost 0 / 0 / 3" in line for line in lines)


def test_the_data_are_json_with_stable_names() -> None:
    data = json.loads(json.dumps(as_data(report(leg([measured()])))))
    assert data["version"] == DATA_VERSION
    assert set(data) == {
        "version", "scenario", "about", "when", "servers", "command", "budget", "judged", "verdict", "legs",
    }  # fmt: skip
    (one,) = data["legs"]
    assert set(one) == {"name", "layout", "fault", "verdict", "spreads", "runs"}
    (run,) = one["runs"]
    assert set(run) == {"applied", "server_s", "clients", "marks", "notes"}
    client = run["clients"][0]
    assert client["outages"][0]["shard"] == 1
    assert client["latency"]["before"]["operations"] == 1_200
    assert client["consistency"]["lost"] == 0


def test_every_name_of_the_data_is_documented() -> None:
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "drills.md").read_text()

    def names(value: object) -> set[str]:
        if isinstance(value, dict):
            return set(value) | {name for inner in value.values() for name in names(inner)}
        return {name for inner in value for name in names(inner)} if isinstance(value, list | tuple) else set()

    missing = [name for name in sorted(names(as_data(matrix()))) if f"`{name}`" not in page]
    assert not missing
