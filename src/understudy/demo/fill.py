"""Fill a cluster, and tell how far it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from understudy.lab import sample
from understudy.progress import Progress, stage
from understudy.valkey.router import Replies, Routed, Router
from understudy.valkey.target import Target


class _Counting(Router):
    """A router that reports the commands it ran."""

    advance: Callable[[int], None] = staticmethod(lambda _: None)

    def execute(self, commands: Sequence[Routed]) -> Replies:
        """Run the commands, then report them."""
        replies = super().execute(commands)
        self.advance(len(commands))
        return replies


def fill(target: Target, keys: int, progress: Progress) -> None:
    """Write so many sample keys of every kind, and load a function library."""
    router = _Counting(target)
    with stage(progress, "Writing keys", None, "commands"), router:
        router.advance = progress.advance
        sample.fill(router, keys)
        sample.load_function(router)
