"""What was written to a history is read from it again, and a damaged one is called that."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from histories import FAILED, INDETERMINATE, OK, correct_histories, history, operation
from understudy.drill.history import Event, History, read, write
from understudy.drill.operation import Kind, Part
from understudy.errors import IntegrityError, NotFoundError, UnreachableError, UsageError

EVENTS = (Event(4, "fault", "node-1", 0, "kill -9"), Event(9, "promoted", "node-4", None, "ünd ✓"))
any_place = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def sample() -> History:
    operations = [
        operation(Kind.SET, "k", "é\n\"x'", 3, 5, part=Part.IDLE, shard=2, error="", moved=1, asked=2, attempts=4),
        operation(Kind.GET, "k", None, 6, 8, FAILED, part=Part.FRESH, error="CLUSTERDOWN"),
        operation(Kind.APPEND, "l", "v", 6, 9, INDETERMINATE, error="TimeoutError"),
        *(operation(Kind.SET, f"k{n}", f"v{n}", n, n + 1, OK) for n in range(50)),
    ]
    return history(operations, {"k": "v", "l": ["a", "b"], "gone": None}, EVENTS)


def same(one: History, other: History) -> bool:
    named = {name: other.header.get(name) for name in one.header}
    return (one.operations, one.events, one.final, one.header) == (other.operations, other.events, other.final, named)


@any_place
@given(correct_histories(), st.booleans())
def test_what_was_written_is_read_again(tmp_path: Path, judged: History, unread: bool) -> None:
    judged.events.extend(EVENTS)
    judged.final = None if unread else judged.final
    write(tmp_path / "history", judged)
    assert same(judged, read(tmp_path / "history"))


def test_every_kind_of_line_comes_back(tmp_path: Path) -> None:
    write(tmp_path / "history", sample())
    assert same(sample(), read(tmp_path / "history"))
    assert [path.name for path in tmp_path.iterdir()] == ["history"]


def test_nothing_at_the_end_is_not_the_same_as_nobody_looked(tmp_path: Path) -> None:
    for final in ({}, None):
        write(tmp_path / "history", history([], final))
        assert read(tmp_path / "history").final == final


def test_a_directory_is_read_where_it_holds_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="without"):
        read(tmp_path)
    write(tmp_path / "cluster.history.gz", sample())
    assert same(sample(), read(tmp_path))
    write(tmp_path / "grey.history.gz", sample())
    with pytest.raises(UsageError) as refusal:
        read(tmp_path)
    both = " ".join(f"--check {tmp_path / name}.history.gz" for name in ("cluster", "grey"))
    assert refusal.value.hint == f"understudy drill {both}"


def read_or_refused(path: Path, content: bytes) -> History | None:
    """Whatever a file holds, it is read, or is an integrity error."""
    path.write_bytes(content)
    try:
        return read(path)
    except IntegrityError as error:
        assert str(path) in error.doing
        return None


@pytest.fixture
def written(tmp_path: Path) -> bytes:
    write(tmp_path / "history", sample())
    return (tmp_path / "history").read_bytes()


def test_a_file_that_was_cut_off_is_damaged_wherever_it_was_cut(tmp_path: Path, written: bytes) -> None:
    for size in range(len(written)):
        assert read_or_refused(tmp_path / "cut", written[:size]) is None, size


def _is_told(tmp_path: Path, written: bytes, bit: int) -> None:
    damaged = bytearray(written)
    damaged[bit // 8 % len(damaged)] ^= 1 << bit % 8
    # Some bits of a gzip header mean nothing, such as those of the system that made it.
    again = read_or_refused(tmp_path / "damaged", bytes(damaged))
    assert again is None or same(sample(), again)


@any_place
@given(bit=st.integers(0))
def test_a_flipped_bit_is_told_or_means_nothing(tmp_path: Path, written: bytes, bit: int) -> None:
    _is_told(tmp_path, written, bit)


@pytest.mark.soak
def test_every_flipped_bit_is_told_or_means_nothing(tmp_path: Path, written: bytes) -> None:
    for bit in range(8 * len(written)):
        _is_told(tmp_path, written, bit)


@any_place
@given(st.binary(max_size=200), st.booleans())
def test_what_is_no_history_is_called_that(tmp_path: Path, content: bytes, packed: bool) -> None:
    assert read_or_refused(tmp_path / "odd", gzip.compress(content) if packed else content) is None


def nested(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=5), nested, max_leaves=8
)


@any_place
@given(line=st.tuples(st.sampled_from(["drill", "op", "event", "final"]), json_values, json_values, json_values))
def test_a_line_of_another_shape_is_told_or_harmless(tmp_path: Path, line: tuple[object, ...]) -> None:
    import orjson

    read_or_refused(tmp_path / "odd", gzip.compress(orjson.dumps(line)))


def test_a_file_of_several_members_lacks_none(tmp_path: Path, written: bytes) -> None:
    lines = gzip.decompress(written).splitlines(keepends=True)
    members = [gzip.compress(b"".join(some)) for some in (lines[:20], lines[20:-1], lines[-1:])]
    (tmp_path / "whole").write_bytes(b"".join(members))
    assert same(sample(), read(tmp_path / "whole"))
    for count in range(len(members)):
        assert read_or_refused(tmp_path / "short", b"".join(members[:count])) is None


@pytest.mark.parametrize("missing", ["final", "clients", "ended_us", "shards", "zero"])
def test_a_header_that_lacks_something_is_damaged(tmp_path: Path, missing: str) -> None:
    import orjson

    header = {**sample().header, "version": 1, "final": False}
    del header[missing]
    lines = orjson.dumps(["drill", header]) + b'\n["end"]\n'
    assert read_or_refused(tmp_path / "lacking", gzip.compress(lines)) is None


@pytest.mark.parametrize(
    ("name", "value"), [("ended_us", "soon"), ("clients", ["client"]), ("zero", None), ("notes", 5), ("said", 3)]
)
def test_a_header_of_another_shape_is_damaged(tmp_path: Path, name: str, value: object) -> None:
    changed = sample()
    changed.header[name] = value
    write(tmp_path / "changed", changed)
    with pytest.raises(IntegrityError, match=name):
        read(tmp_path / "changed")


def test_an_operation_without_a_time_is_damaged(tmp_path: Path) -> None:
    write(tmp_path / "odd", history([operation(Kind.GET, "k", None, 1, 2, due_us="soon")], ended_us=2))
    with pytest.raises(IntegrityError, match="soon"):
        read(tmp_path / "odd")


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "newer").write_bytes(gzip.compress(b'["drill", {"version": 2, "final": false}]\n'))
    with pytest.raises(IntegrityError, match="version is 2"):
        read(tmp_path / "newer")


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="nowhere"):
        write(tmp_path / "nowhere" / "history", sample())


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read(tmp_path / "nowhere")
