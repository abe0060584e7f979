"""How the story is told while it happens: in colour on a terminal, in plain ASCII elsewhere, or not at all."""

from __future__ import annotations

from textwrap import fill
from typing import Protocol, TextIO

from understudy.demo.outcome import Outcome, Step, following
from understudy.pages.figures import seconds

TITLE = "Understudy demo: a sale outlives the death of its server; then all is backed up, lost, restored and rehearsed"

COLOURS = {"passed": "green", "failed": "red", "unknown": "yellow"}
_WIDTH = 120
_QUESTION = 30


class Teller(Protocol):
    """What a story calls as it goes."""

    def opening(self) -> None:
        """Say what is about to happen."""

    def done(self, number: int, step: Step) -> None:
        """Tell a step that has ended."""

    def closing(self, outcome: Outcome, report: str, left: str) -> None:
        """Tell the verdict, where the report is, what is left behind, and what to try next."""


class Mute:
    """Tells nothing, for `--json`."""

    def opening(self) -> None:
        """Say nothing."""

    def done(self, number: int, step: Step) -> None:
        """Say nothing."""

    def closing(self, outcome: Outcome, report: str, left: str) -> None:
        """Say nothing."""


class Plain:
    """Tells in ASCII lines: for logs and CI."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def _line(self, text: str = "") -> None:
        print(text.encode("ascii", "backslashreplace").decode(), file=self._out, flush=True)

    def opening(self) -> None:
        """Print the title."""
        self._line(f"{TITLE}\n")

    def done(self, number: int, step: Step) -> None:
        """Print one line."""
        rate = f" ({step.rate})" if step.rate else ""
        state = "ok" if step.good else "NO"
        self._line(f"{number:>2}. {step.title:<16} {state} {seconds(step.took_s):>7}  {step.figure}{rate}")

    def closing(self, outcome: Outcome, report: str, left: str) -> None:
        """Print the verdict and what is next."""
        said = f"{outcome.verdict.word.upper()} in {seconds(outcome.took_s)}: {outcome.verdict.sentence}"
        self._line("\n" + fill(said, _WIDTH, break_long_words=False, break_on_hyphens=False))
        for reason in outcome.verdict.reasons:
            self._line(f"  {reason}")
        self._line()
        for one in outcome.answers:
            self._line(f"  {one.question:<{_QUESTION}} {one.word}: {one.number} {one.what}")
        self._line(f"\nReport: {report}\nLeft behind: {left}\n\nTry next:")
        for command, what in _beside_each_other():
            self._line(f"  {command} # {what}")


class Coloured:
    """Tells on a terminal."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console  # noqa: PLC0415 - drawing costs start-up time only where it is seen

        self._console = Console(file=out, highlight=False, markup=False)

    def opening(self) -> None:
        """Print the title."""
        self._console.print(TITLE, style="bold", end="\n\n")

    def done(self, number: int, step: Step) -> None:
        """Print one line; what does not fit goes on below the figure, not below the number."""
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        line = Table.grid(padding=(0, 2, 0, 0))
        line.add_column(width=2, justify="right")
        line.add_column(width=16)
        line.add_column(width=1)
        line.add_column(width=7, justify="right")
        line.add_column(overflow="fold")
        figure = Text(step.figure)
        if step.rate:
            figure.append(f"  {step.rate}", style="dim")
        mark = Text("✓", "bold green") if step.good else Text("✗", "bold red")
        line.add_row(Text(str(number), "dim"), step.title, mark, Text(seconds(step.took_s), "dim"), figure)
        self._console.print(line)

    def closing(self, outcome: Outcome, report: str, left: str) -> None:
        """Print the verdict and what is next."""
        from rich.text import Text  # noqa: PLC0415

        verdict = outcome.verdict
        colour = COLOURS[verdict.word]
        self._console.print()
        self._console.print(
            Text.assemble(
                (f"{verdict.word.upper()} in {seconds(outcome.took_s)}", f"bold {colour}"), f": {verdict.sentence}"
            )
        )
        for reason in verdict.reasons:
            self._console.print(f"  {reason}")
        self._console.print()
        for one in outcome.answers:
            tone = COLOURS[one.verdict.word]
            line = Text.assemble(
                f"  {one.question:<{_QUESTION}} ", (one.word, f"bold {tone}"), ": ", (one.number, "bold"),
                f" {one.what}",
            )  # fmt: skip
            self._console.print(line, soft_wrap=True)
        self._console.print(f"\nReport: {report}", soft_wrap=True)
        self._console.print(f"Left behind: {left}", soft_wrap=True)
        self._console.print("\nTry next:", style="dim")
        for command, what in _beside_each_other():
            told = Text.assemble(f"  {command} ", (f"# {what}", "dim"))
            self._console.print(told, soft_wrap=True)


def _beside_each_other() -> list[tuple[str, str]]:
    found = following()
    width = max(len(command) for command, _ in found)
    return [(command.ljust(width), what) for command, what in found]


def for_output(out: TextIO, *, colour: bool) -> Teller:
    """Return what fits: colour only where it is wanted and the terminal can show a tick."""
    encoding = (out.encoding or "").lower().replace("-", "")
    return Coloured(out) if colour and encoding == "utf8" else Plain(out)
