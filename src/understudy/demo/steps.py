"""Time the steps of the story, and tell each as it ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from understudy.demo.outcome import Step
from understudy.demo.tell import Teller
from understudy.pages.figures import rate


@dataclass
class Says:
    """What a step has to tell once it has ended: what it did, and how many units, for the rate."""

    figure: str = ""
    amount: float = 0
    unit: str = ""
    good: bool = True


class Steps:
    """`with steps("fill", "Fill") as says:` times a step; `says` takes what it did. One that fails is not told."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self.done: list[Step] = []

    @contextlib.contextmanager
    def __call__(self, name: str, title: str) -> Iterator[Says]:
        """Time one step."""
        says, began = Says(), time.monotonic()
        yield says
        took_s = time.monotonic() - began
        speed = rate(says.amount, took_s, says.unit) if says.unit else ""
        self.done.append(Step(name, title, took_s, says.figure, speed, says.good))
        self._teller.done(len(self.done), self.done[-1])
