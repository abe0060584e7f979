"""What inspect counts and shows, without a set: views that add up, prefixes, and names that nobody is hurt by."""

from __future__ import annotations

import csv
import io
import json
from binascii import a2b_base64
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.backup.inspect.elements import Pages
from understudy.backup.inspect.export import form_of, json_line, write_csv, write_parquet
from understudy.backup.inspect.heavy import Heavy
from understudy.backup.inspect.listing import Row
from understudy.backup.inspect.names import MOST_PREFIX_BYTES, harmless, meant, prefix, text_of
from understudy.backup.inspect.summary import counted
from understudy.backup.inspect.tally import WHEN, Plan, Tally
from understudy.backup.inspect.tell import prefixes, sizes
from understudy.backup.inspect.times import iso, moment
from understudy.backup.inspect.values import READ, Room, number, whole
from understudy.backup.record import Records
from understudy.backup.tasks.write_keys import name_of
from understudy.errors import UsageError
from understudy.pages.treemap import placed

NOW = 1_800_000_000_000
HOUR = 3_600_000
SEPARATORS = (b":", b"/", b"-")
PLAN = Plan(SEPARATORS, 1, 3, NOW, NOW + 2 * HOUR)
keys = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=20).map(lambda text: text.encode(errors="replace")),
    st.lists(st.sampled_from([b"user", b"cart", b":", b"/", b"-", b"1", b"=", b"\x1b["]), max_size=6).map(b"".join),
)
expiries = st.one_of(st.none(), st.integers(NOW - HOUR, NOW + 2000 * HOUR), st.integers(1, 1 << 62))


@given(keys, st.integers(1, 4))
def test_a_prefix_is_what_a_name_begins_with_up_to_a_separator(key: bytes, depth: int) -> None:
    found = prefix(key, SEPARATORS, depth)
    first = next((one for one in SEPARATORS if one in key[1:]), None)
    assert (found is None) == (first is None)
    if found is None or first is None:
        return
    assert key.startswith(found)
    assert found.endswith(first) or len(found) == MOST_PREFIX_BYTES
    assert found[1:].count(first) == min(depth, key[1:].count(first))


def test_the_first_of_the_separators_that_a_name_holds_ends_its_prefix() -> None:
    assert prefix(b"user_profile:12", (b":", b"_"), 1) == b"user_profile:"
    assert prefix(b"page_home", (b":", b"_"), 1) == b"page_"
    assert prefix(b"a:b:c:d", (b":",), 2) == b"a:b:"
    assert prefix(b"a:b", (b":",), 5) == b"a:"
    assert prefix(b"/var/log", (b"/",), 1) == b"/var/"
    assert prefix(b":", (b":",), 1) is None
    assert prefix(b"", (b":",), 1) is None
    assert prefix("한글·2".encode(), ("·".encode(),), 1) == "한글·".encode()
    assert len(prefix(b"x" * 5000 + b":", (b":",), 1) or b"") == MOST_PREFIX_BYTES


records = st.lists(
    st.tuples(keys, st.integers(0, 2), st.sampled_from(["string", "hash"]), expiries, st.integers(11, 200_000)),
    max_size=60,
)


@settings(max_examples=40)
@given(records, st.integers(1, 5))
def test_every_view_adds_up_to_all_keys_however_the_keys_are_shared_out(rows: list, workers: int) -> None:
    whole_tally = Tally(PLAN)
    for worker in range(workers):
        share = rows[worker::workers]
        one = Tally(PLAN)
        one.add(Records(*([row[at] for row in share] for at in range(4)), []), [row[4] for row in share])
        whole_tally.merge(json.loads(json.dumps(one.as_data())))
    found = counted(whole_tally)
    total = (len(rows), sum(row[4] for row in rows))
    assert (found.keys, found.size) == total
    views = [found.types, found.databases, found.at_taking, found.now, prefixes(found), sizes(found), found.sizes]
    for view in views:
        assert (sum(row[1] for row in view), sum(row[2] for row in view)) == total
    assert {row[0]: row[1] for row in found.types} == Counter(row[2] for row in rows)
    never = sum(row[3] is None for row in rows)
    past = sum(row[3] is not None and row[3] <= NOW for row in rows)
    assert [row[1] for row in found.at_taking[:2]] == [never, past]
    assert [row[0] for row in found.now] == list(WHEN)
    assert found.now[1][1] == sum(row[3] is not None and row[3] <= NOW + 2 * HOUR for row in rows)
    assert [one[0] for one in found.largest] == sorted((row[4] for row in rows), reverse=True)[: PLAN.top]
    by_prefix = Counter(prefix(row[0], SEPARATORS, 1) for row in rows)
    assert all(by_prefix[begins] == number for begins, number, _ in found.prefixes)
    assert found.rest_prefixes == len(set(by_prefix) - {None}) - len(found.prefixes)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 50)), max_size=300), st.integers(4, 40))
def test_in_bounded_memory_nothing_is_lost_and_what_a_prefix_may_lack_is_said(given_: list, most: int) -> None:
    heavy, exact = Heavy(most), Counter[int]()
    for name, size in given_:
        heavy.add(b"%d" % name, 1, size)
        exact[name] += 1
        assert len(heavy.table) <= most
    held = [sum(entry[at] for entry in heavy.table.values()) + heavy.rest[at] for at in (0, 1)]
    assert held == [len(given_), sum(size for _, size in given_)]
    for name, entry in heavy.table.items():
        assert entry[0] <= exact[int(name)] <= entry[0] + heavy.slack[0]
    if len(exact) <= most:
        assert heavy.exact
        assert {int(name): entry[0] for name, entry in heavy.table.items()} == exact


def test_heavy_prefixes_stand_out_of_a_flood_of_single_ones() -> None:
    heavy = Heavy(100)
    for n in range(20_000):
        heavy.add(b"one-%d-" % n, 1, 20)
        if n % 10 == 0:
            heavy.add(b"user:", 1, 20)
        if n % 1000 == 0:
            heavy.add(b"huge:", 1, 1 << 20)
    assert [name for name, _, _ in heavy.largest(2)] == [b"huge:", b"user:"]
    assert heavy.table[b"user:"][0] == 2000
    assert heavy.slack[0] < 1000


@given(st.text())
def test_json_is_the_same_data_and_nothing_that_a_terminal_acts_on(text: str) -> None:
    written = harmless(json.dumps({"value": text}, ensure_ascii=False))
    assert written.isprintable()
    assert json.loads(written) == {"value": text}
    assert all(one.isprintable() or one in "\n\t" for one in text_of(text))


@settings(max_examples=40)
@given(keys, expiries)
def test_csv_gives_back_every_name_and_holds_no_formula(key: bytes, expiry: int | None) -> None:
    out = io.BytesIO()
    assert write_csv([Row(key, 0, "string", 12, expiry)], out) == 1
    text = out.getvalue().decode()
    assert all(one.isprintable() or one == "\n" for one in text)
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    name = a2b_base64(row["key_b64"].removeprefix("base64:")) if row["key_b64"] else row["key"].encode()
    assert name == key
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row.values())
    line = json.loads(json_line(Row(key, 0, "string", 12, expiry)))
    assert (line["key"].encode() if "key" in line else a2b_base64(line["key_b64"])) == key
    assert key in meant(name_of(key))


def test_an_expiry_beyond_every_calendar_is_told() -> None:
    assert iso(1_795_226_319_224) == "2026-11-21T01:58:39.224Z"
    assert (iso(1 << 62), moment(1 << 62)) == (None, "after the year 9999")
    assert json.loads(json_line(Row(b"k", 0, "string", 12, 1 << 62)))["expire_at_ms"] == 1 << 62


def test_a_text_is_cut_between_characters_and_a_score_is_a_number() -> None:
    assert whole("이름".encode()[:5]) == "이".encode()
    assert whole(b"\xff\xfe\xfd\xfc\xfb") == b"\xff\xfe\xfd\xfc\xfb"
    room = Room(4)
    assert [room.take(b"abc"), room.take("이".encode()), room.over, room.cut] == ["abc", "", True, True]
    room = Room(6)
    assert READ["list"](Pages(None, "list", b"k", 3, [b"abc", b"def", b"ghi"]), room) == ["abc", "def"]  # type: ignore[arg-type]
    assert room.cut
    assert [number(one) for one in (b"1.5", b"3", b"inf", b"-inf", b"1e+300")] == [1.5, 3, "inf", "-inf", 1e300]


def test_without_pyarrow_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UsageError, match="pyarrow is not installed") as told:
        write_parquet([], io.BytesIO())
    assert "inspect" in told.value.hint


def test_a_files_name_says_its_form() -> None:
    from pathlib import Path

    names = ("a.csv", "a.JSON", "a.jsonl", "a.parquet", "a")
    assert [form_of(Path(name)) for name in names] == ["csv", "json", "json", "parquet", "csv"]


@settings(max_examples=40)
@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=40))
def test_tiles_fill_the_picture_each_by_its_share(values: list[int]) -> None:
    places = placed(sorted(values, reverse=True))
    total = sum(values)
    for value, place in zip(sorted(values, reverse=True), places, strict=True):
        assert place.width * place.height / 1e4 == pytest.approx(value / total, rel=1e-6)
        assert -1e-6 <= place.x <= place.x + place.width <= 100 + 1e-6
        assert -1e-6 <= place.y <= place.y + place.height <= 100 + 1e-6
    assert placed([]) == []
