"""Did everything come back, and did it survive? Pure decisions over what was counted."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from understudy.backup.component import RestoreReport
from understudy.backup.verify_report import VerifyReport
from understudy.demo.seats import Seats
from understudy.drill.findings import WORST_FIRST, Word
from understudy.drill.findings import Verdict as DrillVerdict
from understudy.pages.figures import count, precise
from understudy.sale.findings import Outage, Tally

MOST_NAMED = 5
LONGEST_S = 30.0
"""Buyers may be without service for so long: a crash is noticed, a replica takes over, the dead server comes back as
its replica; the machine may be busy with other work."""


@dataclass(frozen=True)
class Digests:
    """`DEBUG DIGEST-VALUE` before and after, compared key by key; `examples` names the first that differ.

    `expired` counts keys whose time was over before they could be looked at again.
    """

    compared: int
    equal: int
    different: int
    missing: int
    extra: int
    examples: tuple[str, ...] = ()
    expired: int = 0

    @classmethod
    def compare(
        cls, before: Mapping[bytes, bytes], after: Mapping[bytes, bytes], expired: Set[bytes] = frozenset()
    ) -> Digests:
        """Compare the digests of every key of both sides; those that `expired` are not missed."""
        common = before.keys() & after.keys()
        different = {key for key in common if before[key] != after[key]}
        odd = sorted((different | (before.keys() ^ after.keys())) - expired)
        return cls(
            compared=len(common),
            equal=len(common) - len(different),
            different=len(different),
            missing=len(before.keys() - after.keys() - expired),
            extra=len(after.keys() - before.keys()),
            examples=tuple(key.decode("utf-8", "backslashreplace") for key in odd[:MOST_NAMED]),
            expired=len(expired),
        )

    @property
    def all_equal(self) -> bool:
        """Tell whether both sides hold the same keys with the same digests."""
        return not (self.different or self.missing or self.extra)


@dataclass(frozen=True)
class Verdict:
    """`passed`, `failed` or `unknown`, why, and a sentence that says it."""

    word: Word
    sentence: str
    reasons: tuple[str, ...] = ()


def judge(
    *,
    keys: int,
    in_set: int,
    keys_after_wipe: int,
    functions_after_wipe: int,
    restored: RestoreReport,
    verified: VerifyReport,
    digests: Digests,
    functions_same: bool,
    seats: Seats,
    rehearsal: DrillVerdict,
) -> Verdict:
    """Judge the second night, backup and restore, by their counts.

    What was not compared is never passed: then the verdict is unknown at best.
    """
    wrong: list[str] = []
    if in_set != keys:
        wrong.append(f"The set holds {count(in_set, 'key')}, and the cluster held {keys:,}.")
    if keys_after_wipe or functions_after_wipe:
        left = f"{count(keys_after_wipe, 'key')} and {functions_after_wipe:,} loaded function libraries"
        wrong.append(f"Not everything was lost first: {left} were left, so that the restore proves less.")
    if restored.failed:
        wrong.append(f"{count(restored.failed, 'item')} could not be restored: {_some(restored.failures)}")
    for name, what in (
        ("missing", "missing"),
        ("value_mismatch", "with another value"),
        ("ttl_mismatch", "with another expiry"),
        ("extra", "that the set does not hold"),
    ):
        if number := getattr(verified, name):
            wrong.append(f"verify found {count(number, 'key')} {what}: {_some(verified.examples.get(name, []))}")
    if not digests.all_equal:
        wrong.append(f"The digests differ ({_differences(digests)}): {_some(digests.examples)}")
    if not functions_same:
        wrong.append("The functions that are loaded now are not those that were loaded before.")
    if not seats.all_same:
        wrong.append(f"Sold seats are not as they were ({seats.differences}): {_some(seats.examples)}")
    if rehearsal.word == "failed":
        wrong += (f"The rehearsal: {reason}" for reason in rehearsal.reasons)
    if wrong:
        return Verdict("failed", f"Of {count(keys, 'key')}, not everything came back as it was.", tuple(wrong))
    open_questions: list[str] = []
    if verified.compared != keys:
        open_questions.append(f"verify compared {verified.compared:,} of {count(keys, 'key')}.")
    if digests.equal != keys:
        open_questions.append(f"The digests of {digests.equal:,} of {count(keys, 'key')} were compared.")
    if expired := max(digests.expired, verified.expired, restored.expired):
        open_questions.append(f"{count(expired, 'key')} expired meanwhile: this machine was too slow.")
    if not seats.sold:
        open_questions.append("No seat was sold, so that none could come back.")
    if rehearsal.word == "unknown":
        open_questions += (f"The rehearsal: {reason}" for reason in rehearsal.reasons)
    if open_questions or not keys:
        reasons = tuple(open_questions) or ("There were no keys.",)
        return Verdict("unknown", "Nothing wrong was found, but not everything was compared.", reasons)
    return Verdict(
        "passed",
        f"All {count(keys, 'key')} were lost and came back with the same value, type and expiry, and every sold seat "
        "to the buyer who had it.",
    )


def judge_return(outage: Outage | None, clients: DrillVerdict) -> Verdict:
    """Judge the first night: whether buyers, and the client that is judged, were served again in time."""
    doing = "A primary was killed in the middle of the sale"
    if outage is None:
        return Verdict("unknown", f"{doing}: that did not come about.", ("No primary was killed.", *clients.reasons))
    wrong = []
    if outage.gap_s > LONGEST_S:
        wrong.append(f"Buyers were without service for {precise(outage.gap_s)}; {LONGEST_S:g} s are allowed.")
    if clients.word == "failed":
        wrong += clients.reasons
    if wrong:
        return Verdict("failed", f"{doing}, and that did not end as it must.", tuple(wrong))
    if clients.word == "unknown":
        return Verdict("unknown", f"{doing}, and what that cost is not fully known.", clients.reasons)
    sentence = f"{doing}: its replica took over, and after {precise(outage.gap_s)} buyers were served again."
    return Verdict("passed", sentence, tuple(f"Beside the sale, {reason}" for reason in clients.reasons))


def judge_sale(sold: DrillVerdict, tally: Tally, survived: Digests, *, functions_same: bool) -> Verdict:
    """Judge the third night: whether every promise to buyers was kept, and every older key outlived the kill."""
    lost: list[str] = []
    if not survived.all_equal:
        lost.append(f"After the kill the digests differ ({_differences(survived)}): {_some(survived.examples)}")
    if not functions_same:
        lost.append("After the kill the functions are not those that were loaded before it.")
    if lost or sold.word == "failed":
        reasons = sold.reasons if sold.word != "passed" else ()
        return Verdict("failed", "Not everything that was promised in the sale was kept.", (*lost, *reasons))
    if sold.word == "unknown":
        return Verdict("unknown", "Whether all that was promised in the sale was kept is not known.", sold.reasons)
    if not survived.equal:
        return Verdict("unknown", "No seat was sold twice; but no older key could outlive the kill.")
    sentence = f"{count(tally.sold, 'seat')} of {tally.seats:,} were sold, none of them twice and none forgotten."
    return Verdict("passed", sentence, sold.reasons)


def overall(*nights: Verdict) -> Verdict:
    """Return the worst of several verdicts, with the reasons of all that have it; their sentences stay."""
    word = min((verdict.word for verdict in nights), key=WORST_FIRST.index)
    reasons = tuple(reason for verdict in nights if verdict.word == word for reason in verdict.reasons)
    return Verdict(word, " ".join(verdict.sentence for verdict in nights), reasons)


def _differences(digests: Digests) -> str:
    return f"{digests.different:,} different, {digests.missing:,} missing, {digests.extra:,} extra"


def _some(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) or "no names"
