"""What retention decides: readable tables in `golden/`, and promises that hold for any sets at all."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.backup.set import SetId
from understudy.operations.retention import Known, Policy, decide

GOLDEN = Path(__file__).parent / "golden"
NOW = datetime(2026, 11, 21, 2, 0, 40, tzinfo=UTC)
DAYS = {"daily": 7, "weekly": 30, "monthly": 365, "safety": 7}


def set_id(created: datetime, number: int = 0, profile: str = "prd") -> SetId:
    return SetId.parse(f"stack-{profile}-{created:%Y%m%dT%H%M%SZ}-{number:04x}")


def told(path: Path) -> tuple[list[Known], Policy, datetime, bool, list[str]]:
    """Read a golden file: `key: value` lines, then one set a line with what is to become of it."""
    head, _, table = path.read_text().partition("\n\n")
    said = dict(line.split(": ", 1) for line in head.splitlines() if not line.startswith("#"))
    sets, wanted = [], []
    for number, line in enumerate(line for line in table.splitlines() if line.strip() and not line.startswith("#")):
        about, _, decision = line.partition("->")
        created, tier, *words = about.split()
        profile = next((word.removeprefix("of:") for word in words if word.startswith("of:")), "prd")
        one = set_id(datetime.fromisoformat(created), number, profile)
        sets.append(Known(
            one, None if tier == "hand" else tier, "damaged" not in words, "verified" in words, "rehearsed" in words,
            *(frozenset(word.removeprefix(of) for word in words if word.startswith(of)) for of in ("holds:", "empty:")),
        ))  # fmt: skip
        wanted.append(f"{one}: {' '.join(decision.split())}")
    keep = {name: int(said[f"{name} keep"]) for name in DAYS if f"{name} keep" in said}
    days = {name: int(said.get(f"{name} days", DAYS[name])) for name in DAYS}
    now = datetime.fromisoformat(said["now"])
    return sets, Policy("prd", days, keep), now, said.get("newest run") == "failed", wanted


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("*.txt")))
def test_what_is_decided_is_what_the_table_says(name: str) -> None:
    sets, policy, now, failed, wanted = told(GOLDEN / name)
    decided = {one.id: one for one in decide(sets, policy, now, failed)}
    assert [
        f"{one.id}: {'keep' if decided[one.id].keep else 'delete'} ({decided[one.id].reason})" for one in sets
    ] == wanted


def test_there_are_tables() -> None:
    assert len(list(GOLDEN.glob("*.txt"))) >= 5


TIERS = st.sampled_from([None, "daily", "weekly", "monthly", "safety", "hourly"])
SETS = st.lists(
    st.builds(
        lambda hours, tier, good, verified, rehearsed, profile: (
            NOW - timedelta(hours=hours), tier, good, verified, rehearsed, profile
        ),
        st.integers(-48, 24 * 500), TIERS, st.booleans() | st.just(True), st.booleans(), st.booleans(),
        st.sampled_from(["prd", "prd", "prd", "dev"]),
    ),
    max_size=16,
).map(
    lambda rows: [
        Known(set_id(row[0], number, row[5]), row[1], row[2], row[3], row[4]) for number, row in enumerate(rows)
    ]
)  # fmt: skip
POLICIES = st.builds(
    lambda days, keep: Policy(
        "prd", dict(zip(DAYS, days, strict=True)), dict(zip(("daily", "weekly", "monthly"), keep, strict=True))
    ),
    st.tuples(*[st.integers(1, 400)] * 4),
    st.tuples(*[st.integers(0, 5)] * 3),
)


def deleted(sets: list[Known], policy: Policy, failed: bool = False) -> set[SetId]:
    return {one.id for one in decide(sets, policy, NOW, failed) if not one.keep}


def newest(sets: list[Known]) -> list[SetId]:
    return sorted((one.id for one in sets), reverse=True)


def dated(sets: list[Known]) -> list[Known]:
    """Those that are not of a time to come: only they protect anything."""
    return [one for one in sets if one.id.created <= NOW + timedelta(days=1)]


@given(SETS, POLICIES)
def test_what_may_never_be_deleted_is_kept(sets: list[Known], policy: Policy) -> None:
    gone = deleted(sets, policy)
    ours = dated([one for one in sets if one.id.profile == "prd"])
    for tier in DAYS:
        good = newest([one for one in ours if one.good and one.tier == tier])
        assert gone.isdisjoint(good[: max(1, policy.keep.get(tier, 0))])
    assert gone.isdisjoint(newest([one for one in ours if one.good and one.verified])[:1])
    assert gone.isdisjoint(newest([one for one in ours if one.good and one.rehearsed])[:1])
    for one in sets:
        someone_else = one.tier in {None, "hourly"} or not one.good or one.id.profile != "prd"
        if someone_else or NOW - one.id.created <= timedelta(days=policy.days[str(one.tier)]):
            assert one.id not in gone


@given(SETS, POLICIES)
def test_what_is_too_old_and_not_protected_is_deleted(sets: list[Known], policy: Policy) -> None:
    ours = dated([one for one in sets if one.id.profile == "prd"])
    protected = {
        *newest([one for one in ours if one.good and one.verified])[:1],
        *newest([one for one in ours if one.good and one.rehearsed])[:1],
    }
    for tier in DAYS:
        protected |= set(
            newest([one for one in ours if one.good and one.tier == tier])[: max(1, policy.keep.get(tier, 0))]
        )
    assert (
        deleted(sets, policy)
        == {
            one.id
            for one in ours
            if one.good and one.tier in DAYS and NOW - one.id.created > timedelta(days=policy.days[one.tier])
        }
        - protected
    )


@given(SETS, POLICIES)
def test_nothing_is_deleted_while_the_newest_run_failed(sets: list[Known], policy: Policy) -> None:
    assert deleted(sets, policy, failed=True) == set()


@given(SETS, POLICIES)
def test_deciding_again_after_deleting_deletes_nothing(sets: list[Known], policy: Policy) -> None:
    gone = deleted(sets, policy)
    assert deleted([one for one in sets if one.id not in gone], policy) == set()


@given(SETS, POLICIES, st.sampled_from(sorted(DAYS)), st.integers(0, 100))
def test_more_days_never_delete_more(sets: list[Known], policy: Policy, tier: str, more: int) -> None:
    longer = Policy("prd", {**policy.days, tier: policy.days[tier] + more}, policy.keep)
    assert deleted(sets, longer) <= deleted(sets, policy)


@given(SETS, POLICIES, st.randoms())
def test_the_order_in_which_sets_are_given_does_not_matter(
    sets: list[Known], policy: Policy, chance: random.Random
) -> None:
    mixed = list(sets)
    chance.shuffle(mixed)
    assert decide(mixed, policy, NOW, False) == decide(sets, policy, NOW, False)


@given(SETS, POLICIES, st.booleans())
def test_every_set_gets_one_decision_with_a_reason(sets: list[Known], policy: Policy, failed: bool) -> None:
    decisions = decide(sets, policy, NOW, failed)
    assert [one.id for one in decisions] == newest(sets)
    assert all(one.reason and "\n" not in one.reason for one in decisions)


@pytest.mark.parametrize("tier", sorted(DAYS))
def test_a_set_is_kept_for_exactly_its_days(tier: str) -> None:
    now = NOW.replace(microsecond=0)
    limit = now - timedelta(days=DAYS[tier])
    newer = Known(set_id(now, 1), tier)
    for created, gone in ((limit, False), (limit - timedelta(seconds=1), True), (limit + timedelta(seconds=1), False)):
        old = Known(set_id(created), tier)
        decisions = decide([old, newer], Policy("prd", DAYS), now, False)
        assert (old.id in {one.id for one in decisions if not one.keep}) is gone


TIMES = st.lists(st.integers(0, 500).map(lambda days: NOW - timedelta(days=days)), max_size=12)


@given(TIMES, st.lists(st.tuples(st.integers(-400, 400), st.sampled_from([*DAYS])), max_size=12))
def test_deeds_only_ever_keep_more(deeds: list[datetime], rows: list[tuple[int, str]]) -> None:
    sets = [Known(set_id(NOW - timedelta(days=row[0]), number), row[1]) for number, row in enumerate(rows)]
    without = {one.id for one in decide(sets, Policy("prd", DAYS), NOW, False) if not one.keep}
    gone = {one.id for one in decide(sets, Policy("prd", DAYS), NOW, False, deeds) if not one.keep}
    assert gone <= without
    for tier in DAYS:
        today = [one.id for one in sets if one.tier == tier and one.id.created <= NOW + timedelta(days=1)]
        assert not today or gone.isdisjoint([max(today)])


@given(st.integers(1, 60), st.integers(0, 30))
def test_a_tier_rests_for_its_days_after_a_pause_that_is_longer_than_them(pause: int, since: int) -> None:
    ended = NOW - timedelta(days=since)
    deeds = [ended - timedelta(days=pause), *(NOW - timedelta(days=number) for number in range(since + 1))]
    old, new = Known(set_id(NOW - timedelta(days=100)), "daily"), Known(set_id(NOW), "daily")
    kept = decide([old, new], Policy("prd", DAYS), NOW, False, deeds)[1].keep
    assert kept == (pause > DAYS["daily"] + 1 and since <= DAYS["daily"])


COMPONENTS = st.frozensets(st.sampled_from(["redis", "postgres"]))
HOLDING = st.tuples(SETS, st.lists(st.tuples(COMPONENTS, COMPONENTS), min_size=16, max_size=16)).map(
    lambda both: [
        replace(one, holds=holds, empty=empty - holds) for one, (holds, empty) in zip(both[0], both[1], strict=False)
    ]
)


@given(HOLDING, POLICIES)
def test_the_last_set_with_data_is_kept_while_an_empty_one_after_it_is(sets: list[Known], policy: Policy) -> None:
    gone = deleted(sets, policy)
    good = [one for one in dated(sets) if one.good and one.id.profile == "prd"]
    for name in ("redis", "postgres"):
        last = newest([one for one in good if name in one.holds])[:1]
        if last and any(name in one.empty and one.id > last[0] and one.id not in gone for one in good):
            assert last[0] not in gone
    assert gone <= deleted([replace(one, holds=frozenset(), empty=frozenset()) for one in sets], policy)
    assert deleted([one for one in sets if one.id not in gone], policy) == set()
