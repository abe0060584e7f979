"""The page says what was found, on its own, and keeps hostile text as text."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from reports import failover, leg, matrix, measured, report
from understudy.drill.findings import Budget, DrillReport
from understudy.drill.history import Event
from understudy.drill.measure import measure
from understudy.drill.report import budget_in_words, report_page

HOSTILE = "<script>alert(1)</script>\"&'"
VOID = {"meta", "link", "rect", "path", "circle", "br"}


def text_of(page: str) -> str:
    body = page.partition("<body>")[2]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", re.sub(r"<title>.*?</title>", "", body)))


@pytest.fixture(scope="module")
def single() -> str:
    return report_page(report(leg([measured()])))


@pytest.fixture(scope="module")
def many() -> str:
    return report_page(matrix())


class Balanced(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def test_the_verdict_and_its_numbers_come_first(single: str) -> None:
    text = text_of(single)
    assert text.index("Passed") < text.index("recommended: at most 2.65 s") < text.index("Longest outage")
    assert "Allowed 5 s without a success on any shard, 0 lost writes" in text


def test_clients_stand_side_by_side_in_plain_words(single: str) -> None:
    text = text_of(single)
    for said in (
        "Downtime of the busy connection 2.65 s 9.43 s",
        "Servers took 2.43 s 2.43 s",
        "Idle connection always worked stuck until restart",
        "A fresh client for each call works since +3.50 s works since +3.50 s",
        "Redirections that these clients met, MOVED / ASK 8 / 0 8 / 0",
        "Operations began late, before / after the fault (p99) 0.2 ms / 0.2 ms 0.2 ms / 0.2 ms",
        "Acknowledged writes lost 0 0",
        "Errors after the fault, busy / idle / fresh 105 / 0 / 2",
    ):
        assert said in text


def test_every_table_and_the_way_back_is_there(single: str) -> None:
    text = text_of(single)
    for said in (
        "Outages of each shard", "recommended, shard 1 2.65 s", "Latency", "naive, during", "ClusterDownError",
        "there was a success every 25 ms", "(an open loop)", "understudy drill kill-primary --runs 3",
    ):  # fmt: skip
        assert said in text


def test_each_client_has_a_timeline_with_the_same_marks(single: str) -> None:
    assert single.count('class="chart times"') == 2
    for style in ("fault", "applied", "gone", "promoted", "undone", "back"):
        assert single.count(f'<path class="event {style}" d="M') == 2 + 1  # and once in the legend
    assert "promoted: node-4 is a primary now" in text_of(single)
    assert single.count('class="shade-outage"') == 2 + 1


def test_what_happened_to_the_servers_after_the_last_operation_does_not_stretch_the_timelines() -> None:
    judged = failover()
    judged.events.append(Event(500_000_000, "back", "node-2", 1, "node-2 answers at last"))
    found = measure(judged, name="cluster", layout="cluster", fault="kill")
    page = report_page(report(leg([found])))
    assert ">+20 s<" in page
    assert "answers at last" not in page


def test_several_legs_are_told_apart_at_a_glance_with_links(many: str) -> None:
    text = text_of(many)
    assert "Of 4 legs: 1 failed, 1 unknown, 2 passed." in text
    assert "sentinel failed 6.35 s 12.03 s, stuck, 40 lost" in text
    links = re.findall(r'href="#([^"]+)"', many)
    assert links == ["leg-1", "leg-2", "leg-3", "leg-4"]
    assert all(many.count(f'id="{link}"') == 1 for link in links)
    assert "The fault was not seen to take effect." in text


def test_several_runs_are_summed_up(many: str) -> None:
    assert "recommended 3 2.57 s / 2.65 s / 2.82 s 0 / 0 / 0 3" in text_of(many)
    assert "Of 3 runs this is the worst." in text_of(many)


def test_losses_have_examples(many: str) -> None:
    assert re.search(
        r"naive: lost SET naive:set:\d+ naive-\d+, acknowledged at -0\.\d+ s; at the end nothing", text_of(many)
    )
    assert "and 37 more" in text_of(many)


def test_the_page_is_well_formed_and_needs_nobody(many: str) -> None:
    parser = Balanced()
    parser.feed(many)
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    assert not re.search(r'(?:src|href)=(?!"data:|"#)', many)
    assert not re.search(r"@import|url\((?!#)|<script", many)


def test_hostile_text_stays_text() -> None:
    found = measured()
    hostile = replace(
        found,
        name=HOSTILE, layout=HOSTILE, fault=HOSTILE, notes=(HOSTILE,),
        marks=tuple(replace(mark, text=HOSTILE) for mark in found.marks),
        clients=tuple(
            replace(one, what=HOSTILE, errors=tuple(replace(error, error=HOSTILE) for error in one.errors),
                    consistency=replace(one.consistency, examples={"survived": (HOSTILE,)}))
            for one in found.clients
        ),
        series=tuple(replace(one, errors={HOSTILE: one.failed}) for one in found.series),
    )  # fmt: skip
    texts = dict.fromkeys(("scenario", "about", "servers", "command"), HOSTILE)
    page = report_page(report(leg([hostile]), leg([hostile]), **texts))
    assert "<script" not in page
    assert HOSTILE not in page
    assert page.count("&lt;script&gt;") > 20
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []


def test_a_drill_in_which_nothing_happened_has_a_page() -> None:
    found = measured()
    empty = replace(found, clients=(), series=(), marks=(), notes=(), server_s=None)
    assert "this client did not take part" in report_page(report(leg([empty])))
    nothing: DrillReport = report()
    assert "Nothing was run." in report_page(nothing)


def test_what_could_not_be_read_is_not_called_zero() -> None:
    found = measured()
    unread = tuple(replace(one, consistency=replace(one.consistency, checked=False)) for one in found.clients)
    assert "Acknowledged writes lost not known not known" in text_of(
        report_page(report(leg([replace(found, clients=unread)])))
    )


def test_what_is_allowed_is_said_in_words() -> None:
    assert (
        budget_in_words(Budget(max_downtime_s=2.5, max_lost=1)) == "2.5 s without a success on any shard, 1 lost write"
    )
    assert budget_in_words(Budget()) == "no limits; only recovery is judged"
