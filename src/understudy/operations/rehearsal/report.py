"""The page of a rehearsal: what was restored in what time, and whether it is what was backed up."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from markupsafe import Markup

from understudy.drill.findings import Word
from understudy.operations.rehearsal.findings import ComponentFindings, Rehearsal, title_of
from understudy.operations.rehearsal.lines import unrestored
from understudy.pages.charts import Bar, timeline
from understudy.pages.figures import precise, seconds
from understudy.pages.page import render

TEMPLATE = Path(__file__).parent / "templates" / "rehearsal.html"
SENTENCES: dict[Word, str] = {
    "passed": "The set was restored, and it is what was backed up.",
    "failed": "What was restored is not what it should be.",
    "unknown": "Nothing was proven wrong, but not everything could be checked.",
}
MOST_ROWS = 200
_AT_ONCE_S = 0.05
MOST_REASONS = 12


def rehearsal_page(result: Rehearsal) -> str:
    """Return the page of a rehearsal, one HTML file that needs nothing else."""
    reasons = result.verdict.reasons
    more = len(reasons) - MOST_REASONS
    return render(
        TEMPLATE,
        result=result,
        sentence=_sentence(result),
        reasons=[*reasons[:MOST_REASONS], *([f"and {more:,} more, below"] if more > 0 else [])],
        when=f"{datetime.fromisoformat(result.began_at):%Y-%m-%d %H:%M:%S} UTC",
        headline=_headline(result),
        allowed=_allowed(result),
        recovery=recovery(result),
        components=[_component(one) for one in result.components],
        counts=_counts(result.components),
        differences=[(one.title, [*one.failures, *one.differences]) for one in result.components if one.failed],
        checks=[(one.name, _word(one.word), one.text, precise(one.took_s)) for one in result.checks],
        unchecked=_unchecked(result),
    )


def _headline(result: Rehearsal) -> list[tuple[str, str, str]]:
    passed = sum(one.word == "passed" for one in result.components)
    held = sum(one.word == "passed" for one in result.checks)
    return [
        ("Recovery time", seconds(result.recovery_s), f"set opened and checked, {_written(result)}"),
        ("Age of the data", seconds(result.age_s), "what would have been lost"),
        ("Components", f"{passed} of {len(result.components)}", "are what was recorded"),
        ("Your checks", f"{held} of {len(result.checks)}", "gave the expected answer") if result.checks
        else ("Your checks", "none", "are set up: [[rehearse.checks]]"),
    ]  # fmt: skip


def _written(result: Rehearsal) -> str:
    return f"without {', '.join(lacking)}" if (lacking := unrestored(result)) else "all written back"


def _sentence(result: Rehearsal) -> str:
    words = [*(one.word for one in result.components), *(one.word for one in result.checks)]
    if result.verdict.word == "failed" and "failed" not in words:
        return "What was restored is what was backed up, but a limit was not kept."
    return SENTENCES[result.verdict.word]


def _allowed(result: Rehearsal) -> str:
    limits = [
        (result.limits.max_rto_s, "of recovery"),
        (result.limits.max_age_s, "of age"),
    ]
    return ", ".join(f"{seconds(limit)} {of}" for limit, of in limits if limit is not None)


def recovery(result: Rehearsal) -> Markup:
    """Return the picture: each step from the end of the one before."""
    bars = [Bar(step.what, step.took_s, seconds(step.took_s)) for step in result.opening]
    for one in result.components:
        good = not one.failures
        for step in one.steps:
            if step.what == "start" and step.took_s < _AT_ONCE_S:
                continue  # a server that was given, and runs
            note = "" if good or step is not one.steps[-1] else "failed"
            bars.append(Bar(f"{one.title}: {step.what}", step.took_s, seconds(step.took_s), note, good=not note))
    return timeline("From nothing to the last component written back, one step after the other", bars)


def _word(word: str) -> Markup:
    return Markup('<span class="state {0}">{0}</span>').format(word)


def _component(one: ComponentFindings) -> tuple[object, ...]:
    return (
        one.title, _word(one.word), one.server or "nothing", one.counted or "–",
        seconds(one.took_s) if one.steps else "–", seconds(one.compared_s) if one.counted else "–",
        seconds(one.age_s),
    )  # fmt: skip


def _counts(components: Iterable[ComponentFindings]) -> tuple[list[tuple[object, ...]], int]:
    """Return rows of what was counted, those that differ first, and how many more there are."""
    rows = [(one.title, each) for one in components for each in one.counts]
    rows.sort(key=lambda row: row[1].recorded == row[1].found)
    shown: list[tuple[object, ...]] = [
        (
            f"{title}: {each.what}", f"{each.recorded:,}",
            f"{each.found:,}" if each.found == each.recorded
            else Markup('<strong class="state failed">{:,}</strong>').format(each.found),
        )
        for title, each in rows[:MOST_ROWS]
    ]  # fmt: skip
    return shown, len(rows) - len(shown)


def _unchecked(result: Rehearsal) -> list[str]:
    found = [one.named(text) for one in result.components for text in one.open_questions]
    if counted := [one.title for one in result.components if one.counted and one.name != "redis"]:
        found.append(
            f"The content of rows and vectors ({', '.join(counted)}): they were counted, not compared one by one. The "
            "checksums of the files, and the programs that restored them, vouch for it."
        )
    found += [f"{one.title}: {text}" for one in result.components for text in one.notes]
    found += [f"{title_of(name)} is not in the set: {why}" for name, why in result.missing.items()]
    return found + [f"Not asked for: {text}" for text in result.left_out]
