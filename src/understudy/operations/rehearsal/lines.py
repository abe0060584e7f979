"""A rehearsal as the terminal shows it, in the form of the operator's guide: `[OK]`, `[FAILED]`, `[UNKNOWN]`."""

from __future__ import annotations

from understudy.drill.findings import WORST_FIRST, Word
from understudy.operations.rehearsal.findings import ComponentFindings, Rehearsal, duration, exceeded, title_of

SIGNS: dict[Word, str] = {"passed": "[OK]", "failed": "[FAILED]", "unknown": "[UNKNOWN]"}
_MOST_LINES = 20
_INDENT = "     - "


def lines(result: Rehearsal) -> list[str]:
    """Return what is printed of a rehearsal."""
    found = [f"[OK] Backup {'created' if result.taken else 'found'}: {result.place}"]
    restored = [one.title for one in result.components if one.restored]
    if restored:
        found.append(f"[OK] Restore completed: {', '.join(restored)}")
    found += [
        f"[FAILED] Restore of {one.named(text)}" for one in result.components for text in one.failures[:_MOST_LINES]
    ]
    found += _data(result)
    found += [f"[UNKNOWN] {one.named(text)}" for one in result.components for text in one.open_questions]
    found += [f"{SIGNS[one.word]} Check {one.name!r}: {one.text}" for one in result.checks]
    found += [f"[NOT IN THE SET] {title_of(name)}: {why}" for name, why in result.missing.items()]
    found += [f"[NOT ASKED FOR] {what}" for what in result.left_out]
    found += [f"[FAILED] {text}" for text in exceeded(result.components, result.limits, result.recovery_s)]
    return [*found, _last(result), _times(result)]


def unrestored(result: Rehearsal) -> list[str]:
    """Return the components that were to be rehearsed, and of which nothing was written back."""
    return [one.title for one in result.components if not one.counted]


def _data(result: Rehearsal) -> list[str]:
    compared = [one for one in result.components if one.counted and one.word != "unknown"]
    if not compared:
        return []
    word = next(word for word in WORST_FIRST if any(_data_word(one) == word for one in compared))
    found = ["[OK] Data integrity verified:" if word == "passed" else "[FAILED] Data integrity:"]
    for one in compared:
        found.append(f"{_INDENT}{one.title}: {one.counted}" + "".join(f" ({note})" for note in one.notes))
        found += [f"{_INDENT}{one.named(text)}" for text in one.differences[:_MOST_LINES]]
        if len(one.differences) > _MOST_LINES:
            found.append(f"{_INDENT}{one.title}: and {len(one.differences) - _MOST_LINES} more on the page")
    return found


def _data_word(one: ComponentFindings) -> Word:
    return "failed" if one.differences else "passed"


def _last(result: Rehearsal) -> str:
    took = duration(result.took_s)
    if result.verdict.word == "passed":
        return f"[OK] All checks passed in {took}"
    if result.verdict.word == "failed":
        return f"[FAILED] The rehearsal failed, after {took}"
    return f"[UNKNOWN] Nothing failed, but not everything could be checked, in {took}"


def _times(result: Rehearsal) -> str:
    each = ", ".join(f"{one.title} {duration(one.took_s)}" for one in result.components if one.steps)
    of = f" (open and check the set {duration(result.opened_s)}{', ' if each else ''}{each})"
    without = f" without {', '.join(lacking)}" if (lacking := unrestored(result)) else ""
    return f"Recovery time{without}: {duration(result.recovery_s)}{of}. Age of the data: {duration(result.age_s)}."
