"""The checks of a sale: a sale in which all is well, and each promise broken in it once."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from understudy.drill.history import Event
from understudy.errors import IntegrityError, NotFoundError
from understudy.sale import record
from understudy.sale.checks import check
from understudy.sale.conduct import judge_again
from understudy.sale.findings import Allowed
from understudy.sale.measure import measure, outages
from understudy.sale.record import OPERATOR, Remains, Request, Sale
from understudy.sale.report import report_page
from understudy.sale.verdict import judge

SEATS = ["S1", "S2", "S3"]
SETTINGS = {
    "rate_per_s": 2.0, "burst": 0, "hold_ttl_s": 10.0, "entry_ttl_s": 20.0, "session_ttl_s": 120.0,
    "abandon_after_s": 30.0,
}  # fmt: skip
ENDS = "1970-01-01T00:00:{:06.3f}Z"


def asked(buyer: int, kind: str, at_s: float, said: dict[str, Any], *seats: str, key: str = "", **how: Any) -> Request:
    return Request(buyer, kind, key or f"{buyer}-{kind}-{at_s}", 0, at_s, at_s + 0.1, how.pop("status", 200),
                   said=said, asked=seats, **how)  # fmt: skip


def counts(at_s: float, remaining: int, held: int, sold: int) -> Request:
    return asked(OPERATOR, "event", at_s, {"counts": {"remaining": remaining, "held": held, "sold": sold}})


def whole() -> Sale:
    """Buyer 0 buys S1, buyer 1 buys S2, buyer 2 lets a hold of S3 pass, buyer 3 waits."""
    requests = []
    for buyer in range(4):
        requests += [
            asked(buyer, "join", 1.0 + buyer, {"ticket": f"t{buyer}", "position": buyer + 1}, status=201),
            asked(buyer, "status", 5.0 + buyer, {"state": "waiting", "position": buyer + 1}),
        ]
    for buyer in range(3):
        requests.append(asked(buyer, "enter", 10.0 + buyer, {"token": f"k{buyer}", "id": f"t{buyer}"}))
        hold = {"seats": [SEATS[buyer]], "remaining": 2 - buyer, "expires_at": ENDS.format(24.0 + buyer)}
        requests.append(asked(buyer, "hold", 14.0 + buyer, hold, SEATS[buyer]))
    for buyer in range(2):
        sold = {"seats": [SEATS[buyer]], "remaining": 0}
        requests.append(asked(buyer, "confirm", 18.0 + buyer, sold, SEATS[buyer]))
    requests.append(asked(0, "leave", 20.0, {"state": "left"}))
    requests += [
        counts(13.0, 3, 0, 0), counts(17.5, 0, 3, 0), counts(28.0, 1, 0, 2),
        asked(OPERATOR, "seats", 27.0, {"total": 3, "remaining": 1, "map": "SSA"}),
    ]  # fmt: skip
    tickets = {
        f"t{buyer}": {"state": "inside", "seq": str(buyer + 1), "nth": str(buyer + 1),
                      "enter_by": str(29000 + 500 * buyer)} for buyer in range(3)
    }  # fmt: skip
    tickets["t0"]["state"] = "left"
    tickets["t3"] = {"state": "waiting", "seq": "4"}
    remains = Remains(
        event={"sold": "2"}, waiting={"t3": 4}, admitted={}, inside={"t1": 99000, "t2": 99000},
        status={"S1": "SOLD", "S2": "SOLD", "S3": "AVAILABLE"}, holder={"S1": "t0", "S2": "t1"}, holds={},
        held={"t0": ["S1"], "t1": ["S2"]}, inventory=1, tickets=tickets, streams=["t3"], read_ms=40000,
    )  # fmt: skip
    header = {
        "zero_ms": 0, "ended_s": 30.0, "seats": SEATS, "settings": SETTINGS, "rates": [[0.0, 2.0]], "replicas": 1,
        "layout": "cluster", "faults": ["kill"], "loses": True, "buyers": 4, "unfinished": 0, "troubles": [],
        "notes": [], "lag_s": 0.0, "servers": "valkey", "when": "2026-11-21T00:00:00+00:00", "allowed": [None, None],
    }  # fmt: skip
    events = [Event(21_000_000, "fault", "node-1", None, "kill node-1"), Event(23_000_000, "whole", "", None, "whole")]
    return Sale(header, requests, events, remains)


def broken(sale: Sale) -> dict[str, int]:
    return {one.name: one.broken for one in check(sale) if one.broken}


def test_of_a_sale_in_which_all_is_well_nothing_is_found() -> None:
    assert broken(whole()) == {}
    assert judge(measure(whole()), Allowed()).word == "passed"


def also(*more: Request) -> Callable[[Sale], None]:
    return lambda sale: sale.requests.extend(more)


def here(**changes: Any) -> Callable[[Sale], None]:
    """Change what the servers hold, key by key of its parts."""

    def change(sale: Sale) -> None:
        assert sale.remains
        remains = deepcopy(sale.remains)
        for name, value in changes.items():
            part = getattr(remains, name)
            if isinstance(part, dict) and isinstance(value, dict):
                for key, one in value.items():
                    if one is None:
                        part.pop(key)
                    elif isinstance(one, dict):
                        part[key] = {**part.get(key, {}), **one}
                    else:
                        part[key] = one
            else:
                remains = replace(remains, **{name: value})
        sale.remains = remains

    return change


def both(*changes: Callable[[Sale], None]) -> Callable[[Sale], None]:
    def change(sale: Sale) -> None:
        for one in changes:
            one(sale)

    return change


S1_AGAIN = {"seats": ["S1"], "remaining": 0}
HELD_S1 = {"seats": ["S1"], "remaining": 1, "expires_at": ENDS.format(29.0)}
PLANTED: dict[str, tuple[Callable[[Sale], None], set[str]]] = {
    "a seat is sold to two": (also(asked(2, "confirm", 21.0, S1_AGAIN, "S1")), {"sold_twice", "lost"}),
    "a sale is forgotten": (
        here(status={"S1": "AVAILABLE"}, holder={"S1": None}, held={"t0": None}, inventory=2, event={"sold": "1"}),
        {"lost"},
    ),
    "a seat is sold to who held it and did not buy": (
        here(status={"S3": "SOLD"}, holder={"S3": "t2"}, held={"t2": ["S3"]}, inventory=0, event={"sold": "3"}),
        {"sold_unasked"},
    ),
    "two hold one seat": (
        also(asked(2, "hold", 15.0, HELD_S1, "S1"), asked(2, "release", 15.2, S1_AGAIN, "S1")), {"held_twice"}
    ),
    "a hold is denied before its end": (
        also(asked(2, "confirm", 17.0, {}, "S3", status=403, code="NOT_HOLDER")), {"hold_lost"}
    ),
    "seats do not add up": (also(counts(19.0, 2, 0, 2)), {"inventory"}),
    "fewer than no seats": (also(asked(1, "confirm", 22.0, {"remaining": -1}, "S2")), {"inventory"}),
    "a hold stands a little longer": (
        also(asked(OPERATOR, "seats", 29.5, {"total": 3, "remaining": 0, "map": "SSH"})), set()
    ),
    "a hold comes back late": (
        also(asked(OPERATOR, "seats", 30.5, {"total": 3, "remaining": 0, "map": "SSH"})), {"late"}
    ),
    "a hold that ended is another's": (
        also(asked(3, "hold", 27.0, {}, "S3", status=503, code="UNAVAILABLE"),
             asked(OPERATOR, "seats", 30.5, {"total": 3, "remaining": 0, "map": "SSH"})),
        set(),
    ),
    "two tickets for one": (also(asked(3, "join", 6.0, {"ticket": "t9", "position": 5})), {"ticket_twice"}),
    "one ticket for two": (also(asked(9, "join", 6.0, {"ticket": "t3", "position": 4})), {"ticket_twice"}),
    "two tokens for one": (also(asked(1, "enter", 12.0, {"token": "other", "id": "t1"})), {"token_twice"}),
    "a token of another": (also(asked(3, "enter", 12.0, {"token": "k9", "id": "t1"})), {"token_twice", "forgotten"}),
    "a ticket is denied": (also(asked(3, "status", 9.0, {}, status=404, code="NO_TICKET")), {"denied"}),
    "who is inside is denied": (also(asked(1, "hold", 19.5, {}, "S3", status=403, code="NOT_INSIDE")), {"denied"}),
    "a join is lost": (here(tickets={"t3": None}, waiting={}, streams=[]), {"state", "forgotten"}),
    "an entry is lost": (here(tickets={"t1": {"state": "expired"}}, inside={"t1": None}), {"forgotten"}),
    "a goodbye is lost": (here(tickets={"t0": {"state": "inside"}}, inside={"t0": 99000}), {"forgotten"}),
    "who is there is abandoned": (
        also(asked(3, "status", 12.0, {"state": "abandoned", "position": 0})), {"ended_while_there"}
    ),
    "a later join stands before": (
        here(tickets={"t3": {"seq": "1"}, "t0": {"seq": "4"}}, waiting={"t3": 1}),
        {"joined_in_order", "called_in_order"},
    ),
    "called before their turn": (here(tickets={"t1": {"nth": "3"}, "t2": {"nth": "2"}}), {"called_in_order"}),
    "called as the same": (here(tickets={"t1": {"nth": "1"}}), {"called_in_order", "state"}),
    "a place grows": (also(asked(3, "status", 9.0, {"state": "waiting", "position": 5})), {"moved_back"}),
    "a place grows in a fault": (
        also(asked(3, "status", 22.0, {"state": "waiting", "position": 5})), {"moved_back_in_a_fault"}
    ),
    "a gateway has a bug": (also(asked(3, "status", 25.0, {}, status=500, code="INTERNAL")), {"bugs"}),
    "the inventory is wrong": (here(inventory=2), {"state"}),
    "a held seat without an end": (
        here(status={"S3": "HELD"}, holder={"S3": "t2"}, held={"t2": ["S3"]}, inventory=0), {"state"}
    ),
    "a hold that is over is left": (
        here(status={"S3": "HELD"}, holder={"S3": "t2"}, held={"t2": ["S3"]}, inventory=0, holds={"S3": 26000}),
        {"state"},
    ),
    "the line forgets a ticket": (here(waiting={"t3": None}), {"state"}),
    "the stream forgets a ticket": (here(streams=[]), {"state"}),
}  # fmt: skip


@pytest.mark.parametrize("what", PLANTED)
def test_what_is_planted_is_found_and_nothing_else(what: str) -> None:
    sale = whole()
    plant, expected = PLANTED[what]
    plant(sale)
    assert set(broken(sale)) == expected


def test_calls_above_the_rate_are_found_and_the_burst_is_allowed() -> None:
    def called(*at_s: float) -> Sale:
        sale = whole()
        tickets = {
            f"c{number}": {"state": "left", "seq": str(10 + number), "nth": str(10 + number),
                           "enter_by": str(round((one + 20) * 1000))} for number, one in enumerate(at_s)
        }  # fmt: skip
        here(tickets=tickets)(sale)
        return sale

    assert "rate" not in broken(called(20.0, 20.0, 20.5, 21.0, 21.5))  # two at once, then two a second
    assert "rate" in broken(called(20.0, 20.0, 20.0, 20.0))
    assert "rate" in broken(called(*(20.0 + one * 0.25 for one in range(12))))
    faster = called(*(20.0 + one * 0.25 for one in range(12)))
    faster.header["rates"].append([19.0, 4.0])
    assert "rate" not in broken(faster)


def test_what_asynchronous_replication_loses_is_told_and_judged_where_somebody_promised_or_asked() -> None:
    sale = whole()
    PLANTED["a sale is forgotten"][0](sale)
    assert judge(measure(sale), Allowed()).word == "failed"
    sale.header["replicas"] = 0
    told = judge(measure(sale), Allowed())
    assert told.word == "passed"
    assert any("1 of 2" in reason for reason in told.reasons)
    assert judge(measure(sale), Allowed(max_lost=0)).word == "failed"
    assert judge(measure(sale), Allowed(max_lost=1)).word == "passed"
    sale.header["loses"] = False  # nothing that went wrong can have lost it
    assert judge(measure(sale), Allowed()).word == "failed"


def test_what_does_not_rest_on_replicas_is_always_promised() -> None:
    sale = whole()
    sale.header["replicas"] = 0
    PLANTED["seats do not add up"][0](sale)
    assert judge(measure(sale), Allowed()).word == "failed"


def test_on_a_machine_that_was_too_slow_nobody_is_late() -> None:
    sale = whole()
    PLANTED["a hold comes back late"][0](sale)
    assert judge(measure(sale), Allowed()).word == "failed"
    sale.header["lag_s"] = 3.0
    assert judge(measure(sale), Allowed()).word == "unknown"


def test_what_is_not_known_is_not_passed() -> None:
    unread = whole()
    unread.remains = None
    assert judge(measure(unread), Allowed()).word == "unknown"
    late = whole()
    late.header["unfinished"] = 2
    assert judge(measure(late), Allowed()).word == "unknown"
    quiet = whole()
    quiet.events.clear()
    assert judge(measure(quiet), Allowed()).word == "unknown"


def test_the_longest_time_in_which_nobody_got_anything_done_belongs_to_its_fault() -> None:
    sale = whole()
    sale.requests.append(asked(1, "enter", 27.9, {"token": "k1", "id": "t1"}))
    [one] = outages(sale)
    assert (one.fault, one.at_s, one.from_s) == ("kill node-1", 21.0, 20.1)
    assert one.gap_s == pytest.approx(7.9)
    assert judge(measure(sale), Allowed(max_downtime_s=5)).word == "failed"
    assert judge(measure(sale), Allowed(max_downtime_s=8)).word == "passed"


def test_what_the_servers_sold_in_an_outage_and_nobody_was_told_is_counted() -> None:
    sale = Sale(
        {"ended_s": 20.0},
        [
            asked(1, "confirm", 1.0, {}, "S1"), counts(1.1, 9, 0, 1), asked(2, "confirm", 1.9, {}, "S2"),
            asked(3, "confirm", 3.0, {}, "S3", status=503), counts(4.0, 7, 0, 3), asked(3, "confirm", 8.0, {}, "S3"),
        ],
        [Event(2_000_000, "fault", "", 0, "kill node-1")],
    )  # fmt: skip
    [found] = outages(sale)
    assert (found.counted, found.untold) == (2, 1)


def test_a_record_that_was_kept_is_judged_the_same_and_half_a_file_is_none(tmp_path: Path) -> None:
    sale, path = whole(), tmp_path / "cluster.sale.gz"
    PLANTED["a seat is sold to two"][0](sale)
    record.write(path, sale)
    report = judge_again([path], Allowed(), "understudy drill sale")
    assert report.runs[0][0].findings == measure(sale).findings
    assert report.verdict.word == "failed"
    page = report_page(report)
    assert "S1 to buyers 0, 2" in page
    assert "kill node-1" in page
    kept = path.read_bytes()
    begins = kept.index(b"\0", 10) + 1  # behind the name that gzip keeps, which no checksum covers
    flipped = (kept[:at] + bytes([kept[at] ^ 0xFF]) + kept[at + 1 :] for at in range(begins, len(kept), 7))
    for damaged in (kept[:-40], b"", b"{}", *flipped):
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError):
            record.read(path)
    path.write_bytes(gzip.compress(b'["sale",{}]\n["end"]\n'))
    with pytest.raises(IntegrityError):
        record.read(path)
    with pytest.raises(NotFoundError):
        record.read(tmp_path / "none")
