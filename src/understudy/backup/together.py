"""Read components side by side, a thread each: the first that fails ends the others, unless it is optional."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from understudy.backup.component import Component
from understudy.errors import UnderstudyError, out_of_room
from understudy.progress import Progress

Result = TypeVar("Result")


class Cancelled(BaseException):
    """The work is to end: another component failed, or somebody interrupted us. Not an error to be handled."""


class Cancellable:
    """A progress whose `advance` raises `Cancelled` once `over` is set."""

    def __init__(self, inner: Progress, over: threading.Event) -> None:
        self._inner, self._over = inner, over

    def begin(self, what: str, total: int | None, unit: str) -> None:
        """Start a stage."""
        self.advance(0, told=False)
        self._inner.begin(what, total, unit)

    def advance(self, amount: int, *, told: bool = True) -> None:
        """Pass it on, unless the work is to end."""
        if self._over.is_set():
            raise Cancelled
        if told:
            self._inner.advance(amount)

    def end(self) -> None:
        """End the stage."""
        self._inner.end()

    def say(self, text: str) -> None:
        """Pass it on."""
        self._inner.say(text)

    def beside(self) -> Progress:
        """Return one more that ends with this one."""
        return Cancellable(self._inner.beside(), self._over)


@dataclass
class Outcome(Generic[Result]):
    """What each component gave, and which optional ones are missing, and why."""

    results: dict[str, Result] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def connect_all(components: Sequence[Component], optional: Collection[str]) -> tuple[list[Component], dict[str, str]]:
    """Connect to every store; return the components that answered, and why an optional one did not.

    Raises:
        UnderstudyError: of the kind that fits; the component is named.
    """
    there: list[Component] = []
    missing: dict[str, str] = {}
    for component in components:
        try:
            component.connect()
        except UnderstudyError as error:
            if component.name not in optional or len(missing) + 1 == len(components):
                raise named(error, f"taking {component.name}") from error.__cause__
            missing[component.name] = str(error)
        else:
            there.append(component)
    return there, missing


def side_by_side(
    act: Callable[[Component, Progress], Result],
    components: Sequence[Component],
    optional: Collection[str],
    progress: Progress,
) -> Outcome[Result]:
    """Do something to all components at the same time.

    Raises:
        UnderstudyError: what a component that is not optional raised, with the component named; also when all of
            them are optional and none is left.
    """
    over = threading.Event()
    outcome: Outcome[Result] = Outcome()

    def one(component: Component) -> Result:
        return act(component, Cancellable(progress.beside(), over))

    with ThreadPoolExecutor(max(1, len(components))) as pool:
        futures = {pool.submit(one, component): component for component in components}
        try:
            for future in as_completed(futures):
                component = futures[future]
                if (error := future.exception()) is None:
                    outcome.results[component.name] = future.result()
                elif (
                    component.name in optional
                    and isinstance(error, Exception)
                    and len(outcome.missing) + 1 < len(components)
                ):
                    outcome.missing[component.name] = _why(error)
                    progress.say(f"Warning: {component.name} will be missing in this set: {_why(error)}")
                elif isinstance(error, UnderstudyError):
                    raise named(error, f"taking {component.name}")
                elif isinstance(error, OSError):
                    raise named(out_of_room(error), f"taking {component.name}") from error
                else:
                    raise error
        finally:
            over.set()  # also when we are interrupted: nobody goes on
    return outcome


def named(error: UnderstudyError, prefix: str) -> UnderstudyError:
    """Return the same error, kind and exit code, with what was being done in front."""
    error.doing = f"{prefix}: {error.doing}"
    error.args = (f"{error.doing}: {error.why}",)
    return error


def _why(error: BaseException) -> str:
    """Return an error's text; of one that we did not expect only its kind, for nobody knows what it quotes."""
    if isinstance(error, OSError) and not isinstance(error, UnderstudyError):
        error = out_of_room(error)
    return str(error) if isinstance(error, UnderstudyError) else f"a bug: {type(error).__name__}"
