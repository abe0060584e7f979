"""Polls of one turn are one call; each gets its own answer, and an error is everybody's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from understudy.errors import UnreachableError
from understudy.waitingroom.room import SLICE
from understudy.waitingroom.together import Together
from understudy.waitingroom.values import Place, RefusalError


def ticket(event: str, number: int) -> str:
    return f"{event}.{number:022d}"


def at(event: str, position: int) -> Place:
    return Place(event, "waiting", "open", position, 9, 1.0, 0, 0, 0, 0)


class Line:
    """Everybody stands at the number of their ticket; numbers from 1000 are not known."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.error: Exception | None = None

    async def places(self, event: str, tickets: Sequence[str]) -> list[Place | None]:
        self.calls.append((event, len(tickets)))
        await asyncio.sleep(0.01)
        if self.error:
            raise self.error
        numbers = [int(one.rpartition(".")[2]) for one in tickets]
        return [at(event, number) if number < 1000 else None for number in numbers]


def test_polls_of_one_turn_are_one_call_for_each_event_and_slice() -> None:
    async def scene() -> None:
        line = Line()
        together = Together(line.places)
        asked = [ticket("a", n) for n in range(SLICE + 5)] + [ticket("b", n) for n in range(3)]
        found = await asyncio.gather(*map(together.place, asked))
        assert sorted(line.calls) == [("a", 5), ("a", SLICE), ("b", 3)]
        assert [one.position for one in found] == [*range(SLICE + 5), *range(3)]
        await together.place(ticket("a", 7))
        assert line.calls[-1] == ("a", 1)

    asyncio.run(scene())


def test_a_ticket_that_is_not_known_is_refused_and_the_others_are_answered() -> None:
    async def scene() -> None:
        together = Together(Line().places)
        known, unknown, malformed = await asyncio.gather(
            together.place(ticket("a", 1)), together.place(ticket("a", 1000)), together.place("no ticket"),
            return_exceptions=True,
        )  # fmt: skip
        assert isinstance(known, Place)
        assert isinstance(unknown, RefusalError) and unknown.code == "NO_TICKET"
        assert isinstance(malformed, RefusalError) and malformed.code == "NO_TICKET"

    asyncio.run(scene())


def test_an_error_is_for_all_who_asked_together_and_for_nobody_later() -> None:
    async def scene() -> None:
        line = Line()
        together = Together(line.places)
        line.error = UnreachableError("asking", "nobody is there")
        ended = await asyncio.gather(*(together.place(ticket("a", n)) for n in range(3)), return_exceptions=True)
        assert all(isinstance(one, UnreachableError) for one in ended)
        line.error = None
        assert (await together.place(ticket("a", 2))).position == 2

    asyncio.run(scene())


def test_who_gives_up_keeps_nobody_else_from_the_answer() -> None:
    async def scene() -> None:
        together = Together(Line().places)
        first, second = (asyncio.create_task(together.place(ticket("a", n))) for n in (1, 2))
        await asyncio.sleep(0.005)
        first.cancel()
        assert (await second).position == 2
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(scene())
