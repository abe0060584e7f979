"""Sales on real servers, through real gateways, while something goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import Typed
from support import eventually
from understudy.progress import Silent
from understudy.sale.findings import Allowed, SaleFindings
from understudy.sale.measure import measure
from understudy.sale.plan import plan_for
from understudy.sale.run import run
from understudy.sale.verdict import judge

pytestmark = pytest.mark.long(100)
SHORT: dict[str, Any] = {
    "before_s": 2.0, "hold_fault_s": 3.5, "settle_s": 1.0, "hold_ttl_s": 6.0, "finish_within_s": 60.0,
}  # fmt: skip


def sold(layout: str, *faults: str, buyers: int = 300, seats: int = 60, **others: Any) -> SaleFindings:
    plan = plan_for(layout, faults, buyers=buyers, seats=seats, **{**SHORT, **others})
    found = measure(run(plan, Silent()))
    assert found.checked
    assert found.unfinished == 0
    assert len(found.outages) == len(faults), found.failures
    assert found.tally.joined == buyers
    assert found.tally.entered > buyers * 0.8
    assert found.tally.sold > seats * 0.8
    assert judge(found, Allowed()).word != "failed", judge(found, Allowed())  # others use this machine meanwhile
    return found


@pytest.mark.soak  # in the suite the demo holds such a sale, and looks at its findings
def test_a_sale_outlives_the_primary_of_a_cluster() -> None:
    found = sold("cluster", "kill")
    assert found.replicas == 1
    assert found.tally.unavailable > 0
    assert any(mark.kind == "promoted" for mark in found.marks)


def test_a_sale_outlives_a_failover_of_the_sentinels() -> None:
    found = sold("sentinel", "failover")
    assert found.replicas == 2
    assert any(mark.kind == "switched" for mark in found.marks)


def test_a_gateway_that_is_killed_under_load_and_started_again_does_nothing_twice_and_loses_nothing() -> None:
    found = sold("standalone", "gateway", "gateway", buyers=600, before_s=1.0)
    assert found.tally.unanswered > 0
    assert not any(one.broken for one in found.findings if one.basis in {"always", "acknowledged"})


def test_the_command_tells_the_findings_and_judges_the_record_again(typed: Typed, tmp_path: Path) -> None:
    told, page, kept = tmp_path / "sale.json", tmp_path / "sale.html", tmp_path / "kept"
    done = typed(
        "drill", "sale", "--layout", "standalone", "--fault", "none", "--buyers", "80", "--seats", "20",
        "--json", str(told), "--html", str(page), "--history", str(kept), timeout_s=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(told.read_text())
    assert found["verdict"]["word"] == "passed"
    assert found["runs"][0]["tally"]["joined"] == 80
    assert "Everything that was promised to buyers was kept." in page.read_text()
    [record] = kept.iterdir()
    assert typed("drill", "sale", "--check", str(record)).returncode == 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("sale", "--layout", "enterprise", "--replicas", "1"), "replicas"),
        (("sale", "--fault", "nothing-like-that"), "nothing-like-that"),
        (("sale", "--client", "defaults"), "--client"),
        (("sale", "--layout", "moon"), "moon"),
        (("cluster", "--buyers", "5"), "--buyers"),
        (("cluster", "--fault", "kill", "--fault", "pause"), "one fault"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_started(
    typed: Typed, words: tuple[str, ...], why: str
) -> None:
    done = typed("drill", *words)
    assert done.returncode == 2, done.stderr
    assert why in done.stderr


def test_interrupted_it_leaves_no_gateway_and_no_server(understudy_home: Path, tmp_path: Path) -> None:
    words = ["drill", "sale", "--layout", "standalone", "--buyers", "50", "--history", str(tmp_path / "kept")]
    process = subprocess.Popen(
        [sys.executable, "-m", "understudy", *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "UNDERSTUDY_HOME": str(understudy_home)},
    )  # fmt: skip

    def children() -> list[int]:
        said = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, check=False)
        return [int(one) for one in said.stdout.split()]

    started = eventually(lambda: len(found := children()) >= 4 and found, 30)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=40)
    assert process.returncode == 130
    assert not [one for one in started if Path(f"/proc/{one}").exists()]


@pytest.mark.soak
@pytest.mark.parametrize("layout", ["sentinel", "cluster"])
@pytest.mark.parametrize("number", range(10))
def test_ten_sales_with_everything_that_can_go_wrong(layout: str, number: int) -> None:
    faults = ["kill", "pause", "failover", "partition", "gateway"]
    first = number % len(faults)
    plan = plan_for(layout, faults[first:] + faults[:first], seed=number)
    found = measure(run(plan, Silent()))
    assert judge(found, Allowed()).word != "failed", judge(found, Allowed())
    assert found.checked


@pytest.mark.soak
@pytest.mark.parametrize("layout", ["sentinel", "cluster"])
def test_without_replicas_the_loss_is_told(layout: str) -> None:
    found = measure(run(plan_for(layout, ["partition", "kill"], replicas=0), Silent()))
    verdict = judge(found, Allowed())
    assert verdict.word == "passed", verdict
    assert found.finding("lost").broken or found.finding("forgotten").broken
    assert any("asynchronous replication" in reason for reason in verdict.reasons)
