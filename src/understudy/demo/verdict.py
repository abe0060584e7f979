"""Did everything come back, and did it survive? Pure decisions over what was counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from understudy.backup.component import RestoreReport
from understudy.backup.verify_report import VerifyReport
from understudy.drill.findings import WORST_FIRST, Word
from understudy.drill.findings import Verdict as DrillVerdict
from understudy.pages.figures import count

MOST_NAMED = 5


@dataclass(frozen=True)
class Digests:
    """`DEBUG DIGEST-VALUE` before and after, compared key by key; `examples` names the first that differ."""

    compared: int
    equal: int
    different: int
    missing: int
    extra: int
    examples: tuple[str, ...] = ()

    @classmethod
    def compare(cls, before: Mapping[bytes, bytes], after: Mapping[bytes, bytes]) -> Digests:
        """Compare the digests of every key of both sides."""
        common = before.keys() & after.keys()
        different = {key for key in common if before[key] != after[key]}
        odd = sorted(different | (before.keys() ^ after.keys()))
        return cls(
            compared=len(common),
            equal=len(common) - len(different),
            different=len(different),
            missing=len(before.keys() - after.keys()),
            extra=len(after.keys() - before.keys()),
            examples=tuple(key.decode("utf-8", "backslashreplace") for key in odd[:MOST_NAMED]),
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
) -> Verdict:
    """Judge backup and restore by their counts.

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
    if wrong:
        return Verdict("failed", f"Of {count(keys, 'key')}, not everything came back as it was.", tuple(wrong))
    open_questions: list[str] = []
    if verified.compared != keys:
        open_questions.append(f"verify compared {verified.compared:,} of {count(keys, 'key')}.")
    if digests.equal != keys:
        open_questions.append(f"The digests of {digests.equal:,} of {count(keys, 'key')} were compared.")
    if open_questions or not keys:
        reasons = tuple(open_questions) or ("There were no keys.",)
        return Verdict("unknown", "Nothing wrong was found, but not everything was compared.", reasons)
    return Verdict(
        "passed",
        f"All {count(keys, 'key')} were lost and came back with the same value, type and expiry; none is extra.",
    )


def judge_failover(drilled: DrillVerdict, survived: Digests, *, functions_same: bool) -> Verdict:
    """Judge what a killed primary cost, and whether what had been restored was still there afterwards."""
    lost: list[str] = []
    if not survived.all_equal:
        lost.append(f"After the failover the digests differ ({_differences(survived)}): {_some(survived.examples)}")
    if not functions_same:
        lost.append("After the failover the functions are not those that were loaded before it.")
    doing = "Then a primary was killed under load"
    if lost or drilled.word == "failed":
        reasons = drilled.reasons if drilled.word != "passed" else ()
        return Verdict("failed", f"{doing}, and that did not end as it must.", (*lost, *reasons))
    if drilled.word == "unknown":
        return Verdict("unknown", f"{doing}, and what that cost is not fully known.", drilled.reasons)
    if not survived.compared:
        return Verdict("unknown", f"{doing}, and there was no key that could survive it.")
    still = f"{count(survived.equal, 'key')} of {survived.compared:,} survived"
    sentence = f"{doing}: its replica took over, the client came back, and {still}."
    return Verdict("passed", sentence, drilled.reasons)


def overall(*nights: Verdict) -> Verdict:
    """Return the worst of several verdicts, with the reasons of all that have it; their sentences stay."""
    word = min((verdict.word for verdict in nights), key=WORST_FIRST.index)
    reasons = tuple(reason for verdict in nights if verdict.word == word for reason in verdict.reasons)
    return Verdict(word, " ".join(verdict.sentence for verdict in nights), reasons)


def _differences(digests: Digests) -> str:
    return f"{digests.different:,} different, {digests.missing:,} missing, {digests.extra:,} extra"


def _some(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) or "no names"
