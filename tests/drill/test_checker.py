"""The checker finds what a history proves, all of it that it promises, and nothing that it does not prove."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histories import CLIENT, FAILED, INDETERMINATE, OK, correct_histories, history, operation
from understudy.drill.checker import KINDS, MOST_EXAMPLES, check
from understudy.drill.findings import Consistency
from understudy.drill.history import History
from understudy.drill.operation import Kind, Operation, Outcome

LATER = 10_000


def write(value: str, begun_us: int, ended_us: int, outcome: Outcome = OK, key: str = "k", **more: int) -> Operation:
    return operation(Kind.SET, key, value, begun_us, ended_us, outcome, **more)


def read(value: str | None, begun_us: int, ended_us: int, outcome: Outcome = OK, key: str = "k") -> Operation:
    return operation(Kind.GET, key, value, begun_us, ended_us, outcome)


def append(value: str, begun_us: int, ended_us: int, outcome: Outcome = OK, key: str = "l") -> Operation:
    return operation(Kind.APPEND, key, value, begun_us, ended_us, outcome)


def found(judged: History) -> dict[str, int]:
    """Return what the checker counted that is not zero."""
    counts = asdict(check(judged, CLIENT))
    return {kind: counts[kind] for kind in KINDS if counts[kind]}


def seen_anywhere(judged: History) -> set[str]:
    final = [value if isinstance(value, list) else [value] for value in (judged.final or {}).values()]
    reads = [one.value for one in judged.operations if one.kind is Kind.GET and one.outcome is OK]
    return {value for value in (*reads, *(item for items in final for item in items)) if value is not None}


# A store that does everything right


def _nothing_is_invented(judged: History) -> None:
    survived = sum(
        one.outcome is INDETERMINATE and one.kind is not Kind.GET and one.value in seen_anywhere(judged)
        for one in judged.operations
    )
    assert found(judged) == ({"survived": survived} if survived else {})
    result = check(judged, CLIENT)
    assert result.checked
    assert result.acknowledged == sum(one.outcome is OK and one.kind is not Kind.GET for one in judged.operations)


@settings(deadline=None)
@given(correct_histories())
def test_nothing_is_found_where_the_store_did_everything_right(judged: History) -> None:
    _nothing_is_invented(judged)


@pytest.mark.soak
@settings(max_examples=20_000, deadline=None)
@given(correct_histories(most=150))
def test_nothing_is_found_in_many_histories_of_a_store_that_did_everything_right(judged: History) -> None:
    _nothing_is_invented(judged)


@settings(deadline=None)
@given(correct_histories(), st.randoms())
def test_the_order_of_the_record_does_not_matter(judged: History, random) -> None:
    before = check(judged, CLIENT)
    random.shuffle(judged.operations)
    assert check(judged, CLIENT) == before


# One fault, or several, planted into such a history

Plant = Callable[[History], Counter[str] | None]


def calm(judged: History, key: str) -> Operation:
    """Return a read of what a register held when all had ended: what it shows stays seen, whatever comes after."""
    return read(judged.final.get(key), LATER - 2, LATER - 1, key=key)


def lose_a_register(judged: History) -> Counter[str]:
    key = "register-0"
    judged.operations += [
        calm(judged, key),
        write("early", LATER, LATER + 1, key=key),
        write("late", LATER + 2, LATER + 3, key=key),
    ]
    judged.final[key] = "early"
    return Counter(lost=1)


def lose_all_of_a_register(judged: History) -> Counter[str]:
    judged.operations += [write("only", LATER, LATER + 1, key="new")]
    judged.final["new"] = None
    return Counter(lost=1)


def lose_an_append(judged: History) -> Counter[str] | None:
    for one in judged.operations:
        if one.kind is Kind.APPEND and one.outcome is OK:
            judged.final[one.key].remove(one.value)
            return Counter(lost=1)
    return None


def read_stale(judged: History) -> Counter[str]:
    key = "register-1"
    judged.operations += [
        calm(judged, key),
        write("old", LATER, LATER + 1, key=key),
        write("new", LATER + 2, LATER + 3, key=key),
        read("old", LATER + 4, LATER + 5, key=key),
    ]
    judged.final[key] = "new"
    return Counter(stale=1)


def double_an_append(judged: History) -> Counter[str] | None:
    for one in judged.operations:
        values = judged.final.get(one.key)
        if one.kind is Kind.APPEND and one.value in (values or []):
            values.append(one.value)
            return Counter(doubled=1)
    return None


def let_a_refused_append_survive(judged: History) -> Counter[str] | None:
    for one in judged.operations:
        if one.kind is Kind.APPEND and one.outcome is FAILED:
            judged.final[one.key] = [one.value, *(judged.final[one.key] or [])]
            return Counter(refused_survived=1, survived=1)
    return None


def let_a_refused_set_survive(judged: History) -> Counter[str]:
    key = "register-2"
    judged.operations += [
        calm(judged, key),
        write("refused", LATER, LATER + 1, FAILED, key=key),
        read("refused", LATER + 2, LATER + 3, key=key),
        write("after", LATER + 4, LATER + 5, key=key),
    ]
    judged.final[key] = "after"
    return Counter(refused_survived=1, survived=1)


def let_an_indeterminate_append_have_its_effect(judged: History) -> Counter[str] | None:
    there = seen_anywhere(judged)
    for one in judged.operations:
        if one.kind is Kind.APPEND and one.outcome is INDETERMINATE and one.value not in there:
            judged.final[one.key] = [*(judged.final[one.key] or []), one.value]
            return Counter(survived=1)
    return None


def read_what_nobody_wrote(judged: History) -> Counter[str]:
    judged.operations += [read("nobody's", LATER, LATER + 1, key="other")]
    judged.final.setdefault("other", None)
    return Counter(unknown_values=1)


def hold_what_nobody_appended(judged: History) -> Counter[str] | None:
    for one in judged.operations:
        if one.kind is Kind.APPEND:
            judged.final[one.key] = [*(judged.final[one.key] or []), "nobody's item"]
            return Counter(unknown_values=1)
    return None


PLANTS: tuple[Plant, ...] = (
    lose_a_register, lose_all_of_a_register, lose_an_append, read_stale, double_an_append, read_what_nobody_wrote,
    let_a_refused_append_survive, let_a_refused_set_survive, let_an_indeterminate_append_have_its_effect,
    hold_what_nobody_appended,
)  # fmt: skip


def _is_found(judged: History, plants: list[Plant]) -> None:
    expected = Counter(found(judged))
    for plant in plants:
        expected += plant(judged) or Counter()
    assert found(judged) == dict(expected)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
@given(judged=correct_histories(most=30))
@settings(max_examples=50, deadline=None)
def test_a_planted_fault_is_found_and_nothing_else(plant: Plant, judged: History) -> None:
    _is_found(judged, [plant])


@settings(deadline=None)
@given(judged=correct_histories(), plants=st.lists(st.sampled_from(PLANTS), unique=True))
def test_planted_faults_are_all_found_together(judged: History, plants: list[Plant]) -> None:
    _is_found(judged, [plant for plant in PLANTS if plant in plants])


@pytest.mark.soak
@settings(max_examples=20_000, deadline=None)
@given(judged=correct_histories(most=150), plants=st.lists(st.sampled_from(PLANTS), unique=True))
def test_planted_faults_are_all_found_in_many_histories(judged: History, plants: list[Plant]) -> None:
    _is_found(judged, [plant for plant in PLANTS if plant in plants])


# The rules, one by one


def test_a_write_that_began_after_the_standing_one_had_ended_is_lost() -> None:
    judged = history([write("a", 0, 1), write("b", 2, 3), write("c", 4, 5)], {"k": "a"})
    assert found(judged) == {"lost": 2}
    assert check(judged, CLIENT).acknowledged == 3


def test_a_write_that_another_can_have_replaced_is_not_lost() -> None:
    for standing in (write("a", 0, 3), write("a", 0, 2), write("a", 0, 1, INDETERMINATE), write("a", 0, 1, attempts=2)):
        assert "lost" not in found(history([standing, write("b", 2, 3)], {"k": "a"}))


def test_a_write_that_was_sent_again_only_to_follow_a_redirection_has_one_end() -> None:
    moved = write("a", 0, 1, attempts=3, moved=1, asked=1)
    assert found(history([moved, write("b", 2, 3)], {"k": "a"})) == {"lost": 1}


def test_where_nothing_stands_every_acknowledged_write_is_lost_and_no_other() -> None:
    writes = [write("a", 0, 1), write("b", 0, 1), write("c", 2, 3, INDETERMINATE), write("d", 4, 5, FAILED)]
    assert found(history(writes, {"k": None})) == {"lost": 2}


def test_a_read_must_show_what_was_acknowledged_before_it_began() -> None:
    writes = [write("a", 0, 1), write("b", 2, 3)]
    for begun_us, stale in ((2, {}), (3, {}), (4, {"stale": 1})):
        assert found(history([*writes, read("a", begun_us, 9)], {"k": "b"})) == stale
    assert found(history([*writes, read(None, 2, 9)], {"k": "b"})) == {"stale": 1}
    assert found(history([*writes, read("a", 4, 9, INDETERMINATE)], {"k": "b"})) == {}


def test_a_read_is_counted_once_however_many_writes_it_misses() -> None:
    writes = [write(f"v{n}", 2 * n, 2 * n + 1) for n in range(10)]
    assert found(history([*writes, read("v0", 30, 31), read("v1", 30, 31)], {"k": "v9"})) == {"stale": 2}


def test_a_read_that_misses_a_lost_write_is_that_loss_and_not_stale() -> None:
    operations = [write("a", 0, 1), write("b", 2, 3), read("a", 4, 5)]
    assert found(history(operations, {"k": "a"})) == {"lost": 1}
    assert found(history([*operations, write("c", 6, 7)], {"k": "c"})) == {"stale": 1}


def test_a_read_that_misses_a_lost_write_and_another_is_stale() -> None:
    operations = [write("a", 0, 1), write("b", 2, 5), write("c", 6, 7), read("a", 8, 9)]
    assert found(history(operations, {"k": "b"})) == {"lost": 1, "stale": 1}


def test_a_value_that_was_read_before_it_was_written_is_nobodys() -> None:
    assert found(history([read("a", 0, 1), write("a", 2, 3)], {"k": "a"})) == {"unknown_values": 1}
    assert found(history([read("a", 0, 2), write("a", 2, 3)], {"k": "a"})) == {}


def test_a_value_under_another_key_than_it_was_written_to_is_nobodys() -> None:
    operations = [write("a", 0, 1, key="one"), read("a", 2, 3, key="two")]
    assert found(history(operations, {"one": "a", "two": None})) == {"unknown_values": 1}


def test_an_append_given_up_that_stands_there_twice_has_survived_and_is_doubled() -> None:
    judged = history([append("a", 0, 1, INDETERMINATE), append("b", 0, 1)], {"l": ["a", "b", "a"]})
    assert found(judged) == {"survived": 1, "doubled": 1}


def test_without_a_look_at_the_end_nothing_is_claimed_about_it() -> None:
    judged = history([write("a", 0, 1), write("b", 2, 3), read("a", 4, 5), append("x", 0, 1)], None)
    assert found(judged) == {"stale": 1}
    assert not check(judged, CLIENT).checked


def test_a_key_that_was_not_read_at_the_end_is_not_checked_and_the_others_are() -> None:
    judged = history([write("a", 0, 1), write("a", 0, 1, key="other"), append("x", 0, 1)], {"k": None})
    assert found(judged) == {"lost": 1}
    assert not check(judged, CLIENT).checked


def test_all_connections_of_a_client_count_and_no_other_client() -> None:
    others = replace(write("b", 2, 3), client="other", key="theirs")
    judged = history([replace(write("a", 0, 1), part="idle"), others], {"k": "a", "theirs": None})
    assert found(judged) == {}
    assert check(judged, "other").lost == 1


def test_examples_are_sentences_the_earliest_first_and_not_too_many() -> None:
    writes = [write(f"v{n:02}", n, n + 1, key=f"k{n}") for n in reversed(range(30))]
    examples = check(history(writes, {one.key: None for one in writes}), CLIENT).examples
    assert list(examples) == ["lost"]
    assert len(examples["lost"]) == MOST_EXAMPLES
    assert examples["lost"][0] == "SET k0 v00, acknowledged at +0.000 s; at the end nothing was there"


def _judge_one_key(pairs: int) -> None:
    """A write and a read, so many times, on one key: at most 40 µs of the processor each, whatever their number."""
    operations = []
    for n in range(pairs):
        operations.append(write(f"v{n}", 4 * n, 4 * n + 1))
        operations.append(read(f"v{max(0, n - n % 3)}", 4 * n + 2, 4 * n + 3))
    judged = history(operations, {"k": f"v{pairs - 1}"})
    began_s = time.process_time()
    result: Consistency = check(judged, CLIENT)
    assert time.process_time() - began_s < pairs * 2 * 40e-6
    assert result.stale == sum(n % 3 != 0 for n in range(pairs))


def test_the_time_grows_with_the_operations_and_no_faster_even_on_one_key() -> None:
    _judge_one_key(30_000)


@pytest.mark.soak
def test_half_a_million_operations_take_seconds_even_on_one_key() -> None:
    _judge_one_key(250_000)
