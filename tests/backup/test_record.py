"""A key as a line, and back."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.backup.record import decode, encode
from understudy.errors import IntegrityError
from understudy.valkey.dump import Dumped
from understudy.valkey.payload import TYPE_NAMES

payloads = st.tuples(st.sampled_from([0, 1, 5, 14, 20, 21]), st.binary(min_size=10, max_size=60)).map(
    lambda parts: bytes([parts[0]]) + parts[1]
)
keys = st.one_of(st.binary(max_size=30), st.text(max_size=20).map(lambda text: text.encode(errors="surrogatepass")))
rows = st.lists(st.tuples(keys, payloads, st.one_of(st.just(-1), st.integers(1, 1 << 50))), min_size=1, max_size=20)


@given(rows=rows, db=st.integers(0, 15))
def test_what_is_encoded_is_decoded(rows: list[tuple[bytes, bytes, int]], db: int) -> None:
    names, values, expiries = ([*column] for column in zip(*rows, strict=True))
    lines = encode(Dumped(names, values, expiries), db)
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    records = decode(b"".join(lines), "here")
    assert records.keys == names
    assert records.payloads == values
    assert records.expire_at_ms == [None if at < 0 else at for at in expiries]
    assert records.dbs == [db] * len(rows)
    assert records.types == [TYPE_NAMES[value[0]] for value in values]


@given(rows=rows, db=st.integers(0, 15), by_use=st.booleans())
def test_idle_times_and_frequencies_come_back_and_no_other_line_has_them(
    rows: list[tuple[bytes, bytes, int]], db: int, by_use: bool
) -> None:
    names, values, expiries = ([*column] for column in zip(*rows, strict=True))
    ranks = [(7 * at) % 256 for at in range(len(rows))]
    lines = encode(Dumped(names, values, expiries, ranks, by_use), db)
    records = decode(b"".join(lines), "here")
    assert (records.keys, records.payloads) == (names, values)
    assert (records.freq if by_use else records.idle_s) == ranks
    assert (records.idle_s if by_use else records.freq) is None
    assert records.expire_at_ms == [None if at < 0 else at for at in expiries]
    mixed = decode(b"".join(lines + encode(Dumped(names, values, expiries), db)), "here")
    assert (mixed.freq if by_use else mixed.idle_s) == [*ranks, *[None] * len(rows)]
    assert decode(b"".join(encode(Dumped(names, values, expiries), db)), "here").idle_s is None


def test_a_line_is_what_the_specification_shows() -> None:
    (line,) = encode(Dumped([b"user:1"], [b'\x00\x01vP\x00^"\x07#\x87j\xed:'], [1_795_223_576_492]), 0)
    assert orjson.loads(line) == {
        "key": "user:1",
        "db": 0,
        "type": "string",
        "expire_at_ms": 1795223576492,
        "dump": "AAF2UABeIgcjh2rtOg==",
    }
    assert b'"key_b64":"/w=="' in encode(Dumped([b"\xff"], [b"\x00" * 11], [-1]), 0)[0]


GOOD = b'{"key":"a","db":0,"type":"string","expire_at_ms":null,"dump":"AAF2UABeIgcjh2rtOg=="}\n'


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"a"', b"1"),
        (b'"key"', b'"kex"'),
        (b'"db":0', b'"db":-1'),
        (b'"db":0', b'"db":true'),
        (b'"db":0', b'"db":0.5'),
        (b"string", b"list"),
        (b"null", b"0"),
        (b"null", b"9223372036854775808"),
        (b"null", b'"soon"'),
        (b'"dump"', b'"freq":256,"dump"'),
        (b'"dump"', b'"idle_s":-1,"dump"'),
        (b'"dump"', b'"idle_s":"1","dump"'),
        (b'"dump"', b'"idle_s":true,"dump"'),
        (b"AAF2", b"A!F2"),
        (b"Og==", b"Og="),
        (b"AAF2UABeIgcjh2rtOg==", b"AAF2"),
        (b"}\n", b"},{}\n"),
        (b"}\n", b"}"),
        (b"{", b"[{"),
    ],
)
def test_a_line_that_is_not_quite_one_is_refused(old: bytes, new: bytes) -> None:
    assert decode(GOOD, "here").keys == [b"a"]
    with pytest.raises(IntegrityError) as refusal:
        decode(GOOD.replace(old, new, 1), "part 3")
    assert refusal.value.exit_code == 12
    assert "part 3" in str(refusal.value)
