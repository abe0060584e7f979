"""`understudy inspect` as it is typed: what a set holds, against what the server says that it held."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from binascii import a2b_base64, b2a_base64
from collections import Counter
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyrage
import pytest

from conftest import Typed
from support import backed_up
from understudy.backup.components.redis import RedisComponent
from understudy.backup.encryption import Lock
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.take import take
from understudy.lab import standalone
from understudy.lab.sample import fill, load_function
from understudy.progress import Silent
from understudy.valkey.glob import compile_glob
from understudy.valkey.router import Router
from understudy.valkey.wire import Wire

EVIL = b"\x1b[31m<script>alert(1)<'script>\xe2\x80\xae:"  # two keys begin with it
SHOWN = repr(EVIL)[1:-1]
SAMPLES = 60
HOUR = 3_600_000


@dataclass
class Held:
    """A set, and what the server said it held: `(db, key)` to type, bytes of the dump, and expiry.

    `locked` is the same, encrypted for the key in `identity`, `sliced` one with big keys in slices; `dump` the server's
    own file.
    """

    directory: Path
    locked: Path
    sliced: Path
    identity: Path
    dump: Path
    keys: dict[tuple[int, bytes], Any]
    at_ms: int

    @property
    def root(self) -> Path:
        return self.directory.parent


def commands(now_ms: int) -> list[tuple[Any, ...]]:
    return [
        *(("SET", f"user:{n}", "x" * n) for n in range(120)),
        *(("SET", f"session-{n}", "y" * 50, "PXAT", now_ms + (n + 1) * HOUR // 2) for n in range(40)),
        *(("SET", f"id{n}", n) for n in range(10)),
        ("HSET", "hash:plain", "b", "2", "a", "1"),
        ("HSET", "hash:ttl", "a", "1", "b", "2"),
        ("HPEXPIREAT", "hash:ttl", now_ms + HOUR, "FIELDS", 1, "b"),
        ("HSET", "hash:binary", b"\xff", "1", "b", b"\xfe"),
        ("ZADD", "zset:1", "inf", "most", "1.5", "some", "-3", "few"),
        ("RPUSH", "list:many", *(f"item-{n}" for n in range(25_000))),
        ("SADD", "set:1", "c", "a", "b"),
        ("SADD", "set:many", *(f"member-{n:05d}" for n in range(3_000))),
        ("XADD", "stream:many", "1-1", "seat", "x" * 60_000),
        *(("XADD", "stream:many", f"{n}-1", "seat", "x" * 100) for n in range(2, 1_200)),
        ("XGROUP", "CREATE", "stream:many", "billing", "0"),
        ("HSET", "hash:many", *(word for n in range(1_500) for word in (f"field-{n:04d}", n))),
        ("XADD", "stream:1", "1-1", "seat", "A-1", "seat", "A-2"),
        ("XADD", "stream:1", "2-1", "seat", b"\xff"),
        ("XGROUP", "CREATE", "stream:1", "billing", "0"),
        ("XREADGROUP", "GROUP", "billing", "ann", "COUNT", 1, "STREAMS", "stream:1", ">"),
        ("SET", EVIL + b"1", "\x1b[2J"),
        ("SET", EVIL + b"2", "\x1b[2J"),
        ("SET", "=cmd|' /C calc'!A0", "=1+1"),
        ("SET", b"\xff\x00", b"\x80\x81"),
        ("SET", "text", "첫째 줄\n둘째 줄"),
        ("SELECT", 3),
        ("SET", "third:1", "x"),
        ("SET", "user:1", "another"),
        ("SELECT", 0),
    ]


def looked_up(wire: Wire) -> dict[tuple[int, bytes], Any]:
    found = {}
    for db in (0, 3):
        wire.call("SELECT", db)
        names = sorted(wire.call("KEYS", "*"))
        kinds = wire.pipeline([("TYPE", name) for name in names])
        dumps = wire.pipeline([("DUMP", name) for name in names])
        expiries = wire.pipeline([("PEXPIRETIME", name) for name in names])
        for name, kind, dump, at in zip(names, kinds, dumps, expiries, strict=True):
            found[db, name] = (getattr(kind, "decode", str)(), len(dump), None if at < 0 else at)
    return found


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Held:
    folder = tmp_path_factory.mktemp("inspect")
    with standalone() as server:
        target = server.target()
        with Router(target) as router:
            wire = router.wire(target.seeds[0])
            fill(router, SAMPLES)
            load_function(router)
            now_ms = time.time_ns() // 1_000_000
            replies = wire.pipeline(commands(now_ms))
            assert not [reply for reply in replies if isinstance(reply, Exception)]
            keys = looked_up(wire)
            wire.call("SELECT", 0)
            wire.call("SAVE")
        dump = Path(shutil.copy(server.nodes[0].directory / "dump.rdb", folder / "dump.rdb"))
        backup = backed_up(target, folder / "sets", chunk_keys=100)
        sliced = backed_up(target, folder / "sliced", slice_bytes=50_000, match="*:many")
        secret = pyrage.x25519.Identity.generate()
        (folder / "key").write_text(f"{secret}\n")
        lock = Lock((str(secret.to_public()),), None)
        with contextlib.closing(RedisComponent(target)) as component:
            locked = take([component], LocalRepository(folder / "locked"), None, "local", Silent(), lock=lock).backup
    return Held(backup.directory, locked.directory, sliced.directory, folder / "key", dump, keys, now_ms)


@pytest.fixture
def inspect(typed: Typed, held: Held) -> Any:
    def run(*words: str, code: int = 0, name: str | None = None, env: dict[str, str] | None = None) -> str:
        done = typed("inspect", *words, name or str(held.directory), env=env)
        assert done.returncode == code, done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    return run


def sums(rows: list[dict[str, Any]]) -> tuple[int, int]:
    return sum(row["keys"] for row in rows), sum(row["bytes"] for row in rows)


def by(held: Held, what: Any) -> dict[Any, list[int]]:
    found: dict[Any, list[int]] = {}
    for name, row in held.keys.items():
        entry = found.setdefault(what(name, row), [0, 0])
        entry[0] += 1
        entry[1] += row[1]
    return found


def named(rows: list[dict[str, Any]], name: str) -> dict[Any, list[int]]:
    return {row[name]: [row["keys"], row["bytes"]] for row in rows if row["keys"]}


@pytest.mark.parametrize("match", [None, "*:1*", "none-*"])
def test_what_is_counted_is_what_the_server_held_and_adds_up(inspect: Any, held: Held, match: str | None) -> None:
    found = json.loads(inspect("--json", *(["--match", match] if match else [])))
    redis, meant = found["redis"], dataclasses.replace(held)
    if match:
        meant.keys = {name: row for name, row in held.keys.items() if compile_glob(match).fullmatch(name[1])}
    total = (len(meant.keys), sum(row[1] for row in meant.keys.values()))
    assert (redis["keys"], redis["bytes"]) == total
    prefixes, expiry = redis["prefixes"], redis["expiry"]
    assert not prefixes["approximate"]
    views = [redis["types"], redis["databases"], redis["sizes"], expiry["at_taking"], expiry["now"]]
    for rows in [*views, [*prefixes["top"], prefixes["without"], prefixes["rest"]]]:
        assert sums(rows) == total
    assert named(redis["types"], "type") == by(meant, lambda _, row: row[0])
    assert named(redis["databases"], "db") == by(meant, lambda name, _: str(name[0]))
    digits = by(meant, lambda _, row: 10 ** (len(str(row[1])) - 1))
    assert named(redis["sizes"], "from") == digits
    assert [row["bytes"] for row in redis["largest"]] == sorted((row[1] for row in meant.keys.values()), reverse=True)[
        :15
    ]
    taken = expiry["taken_ms"]
    edges = {"past": 0, "hour": 1, "day": 24, "week": 168, "month": 720}

    def when(_: Any, row: Any) -> str:
        if row[2] is None:
            return "never"
        return next((word for word, hours in edges.items() if row[2] <= taken + hours * HOUR), "later")

    assert named(expiry["at_taking"], "expires") == by(meant, when)
    assert found["match"] == match


def test_the_tables_tell_the_same_and_a_hostile_name_is_only_text(inspect: Any, held: Held) -> None:
    told = re.sub(" +", " ", inspect("--top", "200"))
    assert f"Keys: {len(held.keys):,}, with" in told
    for words in ("understudy_sample LUA", "session-* 40", "third:*", "(no separator)", "list:many"):
        assert words in told
    assert SHOWN in told
    cart = inspect("--separator", "-", "--match", "session-*")
    assert "Keys that match session-*: 40" in cart
    assert "TYPE" not in inspect("--match", "none-*")


def test_every_list_names_every_key(inspect: Any, held: Held) -> None:
    lines = [json.loads(line) for line in inspect("--keys", "--json").splitlines()]
    rows = {
        (row["db"], row["key"].encode() if "key" in row else a2b_base64(row["key_b64"])): (
            row["type"], row["bytes"], row["expire_at_ms"]
        )
        for row in lines
    }  # fmt: skip
    assert rows == held.keys
    assert len(lines) == len(held.keys)
    rows = {}
    for row in csv.DictReader(io.StringIO(inspect("--csv"), newline="")):
        name = a2b_base64(row["key_b64"].removeprefix("base64:")) if row["key_b64"] else row["key"].encode()
        at = int(row["expire_at_ms"]) if row["expire_at_ms"] else None
        rows[int(row["db"]), name] = (row["type"], int(row["bytes"]), at)
        assert not row["key"].startswith(("=", "+", "-", "@"))
    assert rows == held.keys
    short = inspect("--keys", "--match", "user:*", "--limit", "7")
    assert len(short.splitlines()) == 8


VALUES = {
    "hash:plain": {"value": {"a": "1", "b": "2"}, "length": 2},
    "hash:binary": {"value": [["b", {"base64": "/g=="}], [{"base64": "/w=="}, "1"]], "length": 2},
    "zset:1": {"value": [["few", -3], ["some", 1.5], ["most", "inf"]], "length": 3},
    "set:1": {"value": ["a", "b", "c"], "length": 3},
    "text": {"value": "첫째 줄\n둘째 줄", "length": 21},
    "user:3": {"value": "xxx", "length": 3},
    "id7": {"value": "7", "length": 1},
    "stream:1": {
        "value": {
            "last_id": "2-1",
            "entries": [
                {"id": "1-1", "fields": [["seat", "A-1"], ["seat", "A-2"]]},
                {"id": "2-1", "fields": [["seat", {"base64": "/w=="}]]},
            ],
            "groups": [
                {
                    "name": "billing",
                    "last_delivered_id": "1-1",
                    "consumers": [{"name": "ann", "pending": 1}],
                    "pending": [{"id": "1-1", "consumer": "ann", "deliveries": 1}],
                }
            ],
        },
        "length": 2,
    },
}


def test_values_of_every_type_are_readable_and_what_is_cut_says_so(inspect: Any, held: Held) -> None:
    written = inspect("--values", "--json", "--most-bytes", "2000")
    assert all(one.isprintable() or one == "\n" for one in written)
    rows = {(row["db"], row.get("key", row.get("key_b64"))): row for row in map(json.loads, written.splitlines())}
    assert len(rows) == len(held.keys)
    assert not [row for row in rows.values() if "error" in row]
    for key, expected in VALUES.items():
        row = rows[0, key]
        assert {name: row[name] for name in expected} == expected, key
        assert "truncated" not in row
    assert rows[0, "hash:ttl"]["field_expire_at_ms"] == {"b": held.at_ms + HOUR}
    assert rows[0, b2a_base64(b"\xff\x00", newline=False).decode()]["value"] == {"base64": "gIE="}
    assert (rows[0, "user:1"]["value"], rows[3, "user:1"]["value"]) == ("x", "another")
    many = rows[0, "list:many"]
    assert many["truncated"]
    assert many["length"] == 25_000
    size = sum(map(len, many["value"]))
    assert 2000 - 10 <= size <= 2000
    assert many["value"][:3] == ["item-0", "item-1", "item-2"]
    assert rows[0, "set:many"]["truncated"]
    assert rows[0, "hash:many"]["truncated"]
    assert Counter(row["type"] for row in rows.values()) == Counter(row[0] for row in held.keys.values())


def test_one_key_is_shown_whole(inspect: Any) -> None:
    told = inspect("--key", "list:many")
    assert told.startswith("list:many: list in database 0, ")
    assert json.loads(told.partition("\n")[2]) == [f"item-{n}" for n in range(25_000)]
    rows = json.loads(inspect("--key", "user:1", "--json"))
    assert [(row["db"], row["value"]) for row in rows] == [(0, "x"), (3, "another")]
    assert '"gIE="' in inspect("--key", r"'\xff\x00'")
    assert "lacks it" in inspect("--key", "absent", code=11)


def test_large_collections_are_read_in_pages(inspect: Any) -> None:
    rows = {row["key"]: row for row in map(json.loads, inspect("--values", "--match", "*:many", "--json").splitlines())}
    assert rows["hash:many"]["value"] == {f"field-{n:04d}": str(n) for n in range(1_500)}
    assert rows["set:many"]["value"] == [f"member-{n:05d}" for n in range(3_000)]
    assert {name for name, row in rows.items() if "truncated" in row} == {"list:many", "stream:many"}


def test_keys_in_slices_are_counted_listed_and_shown_like_others(inspect: Any, held: Held) -> None:
    sliced = str(held.sliced)
    found = json.loads(inspect("--json", "--match", "*:many", name=sliced))["redis"]
    assert found["keys"] == 4
    assert sums(found["types"]) == sums(found["databases"]) == (4, found["bytes"])
    assert len(list(held.sliced.glob("slices/*.resp"))) >= 3
    for most in ("100000000", "1000"):
        words = ("--values", "--json", "--match", "*:many", "--most-bytes", most)
        whole = {row["key"]: row for row in map(json.loads, inspect(*words).splitlines())}
        for line in inspect(*words, name=sliced).splitlines():
            row, other = json.loads(line), whole.pop(json.loads(line)["key"])
            assert (row["length"], row.get("truncated")) == (other["length"], other.get("truncated"))
            if row["key"] in ("list:many", "stream:many") or "truncated" not in row:
                named = ("last_id", "groups") if row["key"] == "stream:many" and "truncated" in row else ()
                assert [row["value"][name] for name in named] == [None] * len(named)
                changed = dict.fromkeys(named)
                assert row["value"] == (other["value"] | changed if named else other["value"])
            if row["key"] == "stream:many" and "truncated" not in row:
                assert [one["id"] for one in row["value"]["entries"]] == [f"{n}-1" for n in range(1, 1_200)]
        assert not whole


def test_values_as_csv_and_parquet_and_a_table(inspect: Any, held: Held, tmp_path: Path) -> None:
    from pyarrow import parquet

    words = ("--values", "--match", "[hzste]*[:x][pb1t]*")
    rows = list(csv.DictReader(io.StringIO(inspect(*words, "--csv"), newline="")))
    told = {row["key"]: json.loads(row["value"]) for row in rows}
    assert told["hash:plain"] == {"a": "1", "b": "2"}
    assert told["hash:ttl"] == {"value": {"a": "1", "b": "2"}, "field_expire_at_ms": {"b": held.at_ms + HOUR}}
    assert told["zset:1"] == VALUES["zset:1"]["value"]
    assert told["text"] == "첫째 줄\n둘째 줄"
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())
    place = tmp_path / "some.parquet"
    inspect(*words, "-o", str(place))
    assert place.stat().st_mode & 0o777 == 0o600
    table = parquet.read_table(place).to_pylist()
    assert {row["key_text"]: json.loads(row["value"]) for row in table} == told
    for row in table:
        kind, size, at = held.keys[row["db"], row["key"]]
        expires = row["expires_at"] and round(row["expires_at"].timestamp() * 1000)
        assert (row["type"], row["bytes"], expires) == (kind, size, at)
    assert '["a","b","c"]' in inspect(*words)


def test_every_kind_of_set_is_read(inspect: Any, held: Held, typed: Typed, tmp_path: Path) -> None:
    expected = json.loads(inspect("--json"))["redis"]
    for name in (f"{held.directory}.tar.gz", "latest"):
        found = json.loads(inspect("--json", name=name, env={"BACKUP_DIR": str(held.root)}))
        assert found["redis"]["prefixes"] == expected["prefixes"]
    env = {"BACKUP_DIR": str(tmp_path / "away"), "S3_URI": str(held.root)}
    done = typed("inspect", "--from-s3", "latest", "--json", env=env)
    assert json.loads(done.stdout)["redis"]["types"] == expected["types"], done.stderr
    assert [one.name for one in (tmp_path / "away").iterdir()] == [".lock"]
    found = json.loads(inspect("--json", name=str(held.dump), env={"BACKUP_DIR": str(tmp_path / "away")}))
    assert found["redis"]["types"] == expected["types"]
    assert found["redis"]["functions"] == expected["functions"] != []
    assert "no such file" in inspect(name="absent.rdb", code=11)


def test_an_encrypted_set_is_read_with_its_key(inspect: Any, held: Held) -> None:
    locked, key = str(held.locked), str(held.identity)
    found = json.loads(inspect("--json", "--identity", key, name=locked))
    assert found["encrypted"]
    assert found["redis"]["types"] == json.loads(inspect("--json"))["redis"]["types"]
    assert "BACKUP_IDENTITY" in inspect("--keys", name=locked, code=14)
    assert [one.name for one in held.locked.parent.iterdir() if one.name.startswith((".", "decrypt"))] == [".lock"]


def test_a_damaged_set_is_no_list(inspect: Any, held: Held, tmp_path: Path) -> None:
    damaged = tmp_path / held.directory.name
    shutil.copytree(held.directory, damaged)
    part = next(damaged.glob("keys/*00001.jsonl"))
    part.write_bytes(part.read_bytes().replace(b'"db":0', b'"db":1', 1))  # a record as good as any
    (tmp_path / "out").mkdir()
    for words in (("--json",), ("-o", str(tmp_path / "out" / "keys.csv"))):
        assert part.name in inspect(*words, name=str(damaged), code=12)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ("--csv", "--json"), ("--key", "a", "--keys"), ("--html", "x", "--csv"), ("--names",),
        ("--separator", ""), ("--keys", "--limit", "20000"), ("--from-s3", "latest"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(inspect: Any, words: tuple[str, ...]) -> None:
    assert "Try: " in inspect(*words, code=2)


def test_parquet_is_nothing_for_a_terminal(held: Held) -> None:
    ours, theirs = os.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "understudy", "inspect", "--parquet", str(held.directory)],
        stdout=theirs, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 2
    assert "-o FILE" in done.stderr


class Seen(HTMLParser):
    """The text of a page, and what it would load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.loads, self.tags = "", [], Counter[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.loads += [
            value for name, value in attrs if name in {"src", "href"} and not (value or "").startswith("data:")
        ]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_holds_no_value_and_names_no_key_unless_asked(inspect: Any, held: Held, tmp_path: Path) -> None:
    place = tmp_path / "page.html"
    assert f"Page: {place}" in inspect("--html", str(place))
    assert place.stat().st_mode & 0o777 == 0o600
    page = place.read_text()
    seen = Seen(page)
    assert (seen.loads, seen.tags["script"]) == ([], 0)
    for words in ("By prefix", "user:*", "session-*", "(others)", "understudy_sample", f"{len(held.keys):,}"):
        assert words in seen.text
    for _, name in held.keys:
        if len(name) > 6 and name != b"sample:":
            assert name.decode(errors="replace") not in page
    assert "another" not in page
    assert "zset:*" not in page
    assert SHOWN in seen.text
    inspect("--html", str(place), "--names", "--top", "200")
    page = place.read_text()
    seen = Seen(page)
    assert "list:many" in page
    assert SHOWN in seen.text
    assert (seen.loads, seen.tags["script"]) == ([], 0)
    assert not [one for one in page if not one.isprintable() and one != "\n"]
