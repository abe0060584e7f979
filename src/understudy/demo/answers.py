"""The three nights that the project exists for, each with what the demo saw of it: a question, an answer, a number."""

from __future__ import annotations

from dataclasses import dataclass

from understudy.demo.seats import Seats
from understudy.demo.sold import Sold, started_again
from understudy.demo.verdict import Digests, Verdict
from understudy.operations.rehearsal.findings import Rehearsal
from understudy.pages.figures import count, precise, seconds

NOT_KNOWN = "Not known"


@dataclass(frozen=True)
class Answer:
    """A question, the answer in a word, the number that it rests on with what is counted, and the verdict on it."""

    question: str
    word: str
    number: str
    what: str
    verdict: Verdict


def came_back(sold: Sold) -> Answer:
    """Answer the first question."""
    took = precise(sold.outage.gap_s) if sold.outage else "–"
    what = "without service for buyers, after the server of the sale was killed in the middle of it"
    if (after_s := started_again(sold.found)) is not None:
        what += f"; the demo started it again {precise(after_s)} later"
    return Answer("Did the application come back?", in_a_word(sold.came_back, "Yes", "No"), took, what, sold.came_back)


def restores(verdict: Verdict, keys: int, digests: Digests, rehearsal: Rehearsal) -> Answer:
    """Answer the second question."""
    what = f"of {count(keys, 'key')} wiped and back as they were; rehearsed elsewhere in {seconds(rehearsal.took_s)}"
    return Answer("Does the backup restore?", in_a_word(verdict, "Yes", "No"), f"{digests.equal:,}", what, verdict)


def sold_twice(sold: Sold, seats: Seats) -> Answer:
    """Answer the third question."""
    twice = [one.broken for one in sold.found.findings if one.name == "sold_twice"]
    what = f"of {count(seats.sold, 'sold seat')}; {seats.same:,} still belong to their buyers after the restore"
    bad = "Yes" if any(twice) else "Not that, but"
    return Answer(
        "Was a seat sold twice?", in_a_word(sold.kept, "No", bad), f"{sum(twice):,}" if twice else "–", what, sold.kept
    )


def in_a_word(verdict: Verdict, good: str, bad: str) -> str:
    """Return the word for a verdict, where something is known."""
    return {"passed": good, "failed": bad, "unknown": NOT_KNOWN}[verdict.word]
