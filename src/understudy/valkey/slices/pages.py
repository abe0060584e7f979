"""Ask for a value page by page, as many elements a page as fill about a slice."""

from __future__ import annotations

from collections.abc import Iterator

from understudy.valkey.wire import Reply, Wire

_FIRST_COUNT, _MOST_COUNT = 16, 100_000


class Pages:
    """Elements of one value, as they arrive: a page is never held as a whole.

    `words` stand in a reply for each element. `count` is how many elements to ask for next, `got` how many words the
    page before had, `cursor` where a scan goes on.
    """

    def __init__(self, wire: Wire, slice_bytes: int, words: int = 1) -> None:
        self._wire, self._slice_bytes, self._words = wire, slice_bytes, words
        self.count = _FIRST_COUNT
        self.got = 0
        self.cursor = b"0"

    def elements(self, *command: bytes | str | int) -> Iterator[bytes]:
        """Yield the elements of an array reply."""
        return self._measured(self._wire.elements(*command))

    def scanned(self, *command: bytes | str | int) -> Iterator[bytes]:
        """Yield the elements of a page of SSCAN or HSCAN; `cursor` is set by the end of it."""
        replies = self._wire.elements(*command, cursor=True)
        self.cursor = next(replies)
        return self._measured(replies)

    def _measured(self, replies: Iterator[Reply]) -> Iterator[bytes]:
        self.got = size = 0
        for element in replies:
            self.got += 1
            size += len(element) + 8
            yield element
        self.adapt(self.got // self._words, size)

    def adapt(self, got: int, size: int) -> None:
        """Choose how many to ask for next by how big these were."""
        fitting = self._slice_bytes * got // max(1, size)
        self.count = max(1, min(fitting, 4 * self.count, _MOST_COUNT))
