"""An archive of real servers, made inside the test's process; and what stands in it, read without a server."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from understudy.backup.encryption import Lock
from understudy.backup.pitr.catalog import read_archive
from understudy.backup.pitr.journal import LAG_MS
from understudy.backup.pitr.ledger import Ledger, Mark
from understudy.backup.pitr.objects import LocalObjects, Objects
from understudy.backup.pitr.service import Plan, Service
from understudy.backup.pitr.stream import StreamInfo
from understudy.backup.pitr.windows import Windows
from understudy.errors import UnderstudyError, UnreachableError
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Target

ROOT = "archive/redis-backup-local"


@dataclass
class Running:
    """A service at work, and what it said."""

    service: Service
    said: list[str] = field(default_factory=list)
    marked: list[int] = field(default_factory=list)  # seconds that were found to be exact, by whichever shard

    def streams(self) -> list[StreamInfo]:
        """The streams that are published."""
        return infos(self.service.objects)

    def lost(self) -> list[int]:
        """Seconds that were exact and are not offered. Which are exact depends on how busy this machine is."""
        found = windows(self.service.objects)
        return [one for one in self.marked if not found.holds(one) and one >= found.spans[0].first]

    def heard(self, text: str) -> bool:
        """Whether it said that."""
        return any(text in line for line in self.said)


class AwayObjects(LocalObjects):
    """A repository that can be away."""

    away = False
    keeps_bases_waiting = False

    def put(self, path: str, data: bytes) -> None:
        self._refuse()
        super().put(path, data)

    def put_file(self, path: str, file: Path, advance: Callable[[int], None] = lambda _: None) -> None:
        while self.keeps_bases_waiting and "/base." in path:
            time.sleep(0.05)
        self._refuse()
        super().put_file(path, file, advance)

    def _refuse(self) -> None:
        if self.away:
            raise UnreachableError("writing to the test's place", "it is away", "Wait.")


@contextmanager
def archiving(
    target: Target, objects: Objects, folder: Path, *, most_disk: int = 1 << 30, lock: Lock | None = None
) -> Iterator[Running]:
    """Archive a target, shipping every 0.3 s, while the block runs."""
    said: list[str] = []
    service = Service(target, objects, Plan(None, "local", 0.3, 7, 86_400, most_disk, lock), said.append)
    problems: list[BaseException] = []

    def run() -> None:
        try:
            service.run(folder)
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            problems.append(error)

    folder.mkdir(exist_ok=True)
    thread = threading.Thread(target=run)
    running = Running(service, said)
    whole = Ledger.mark

    def mark(ledger: Ledger, one: Mark) -> None:
        whole(ledger, one)
        if any(stream.until_ms == one.at_ms for stream in ledger.streams()):  # no stream begins behind it
            running.marked.append(one.at_ms // 1000 - 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "mark", mark)
        thread.start()
        try:
            yield running
        finally:
            service.stopped.set()
            thread.join(60)
    if problems:
        raise problems[0]


class Counter:
    """Counts in a key of each shard, two hundred times a second, and logs when each number was written."""

    def __init__(self, target: Target, keys: tuple[bytes, ...] = (b"counter",)) -> None:
        self.keys, self._target = keys, target
        self.log: list[tuple[int, float, float]] = []  # number, ms before it was sent, ms after it was acknowledged
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Counter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)

    def _run(self) -> None:
        number = 0
        with Router(self._target) as router:
            while not self._over.wait(0.005):
                number += 1
                before = time.time() * 1000
                commands = [(key_slot(key), ("SET", key, number)) for key in self.keys]
                try:
                    router.execute(commands)
                except UnderstudyError:  # whether it was written nobody knows
                    self.log.append((number, before, float("inf")))
                    continue
                self.log.append((number, before, time.time() * 1000))

    def bounds(self, second: int) -> tuple[int, int]:
        """The least and the largest number that the end of a second may show."""
        end = (second + 1) * 1000
        least = max((number for number, _, after in self.log if after <= end - LAG_MS), default=0)
        return least, max((number for number, before, _ in self.log if before < end), default=0)


def infos(objects: Objects) -> list[StreamInfo]:
    """The streams of an archive, oldest first."""
    names = [name for name in objects.folders(ROOT) if "stream.json" in objects.sizes(f"{ROOT}/{name}")]
    return [StreamInfo.decode(objects.get(f"{ROOT}/{name}/stream.json"), name) for name in names]


def windows(objects: Objects) -> Windows:
    """What can be restored."""
    return read_archive(objects, ROOT).windows


def journal(objects: Objects, name: str) -> bytes:
    """All pieces of a plain stream, one behind the other."""
    pieces = sorted(path for path in objects.sizes(f"{ROOT}/{name}") if path.startswith("incr-"))
    return b"".join(gzip.decompress(objects.get(f"{ROOT}/{name}/{path}")) for path in pieces)


def commands(data: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Each command of a journal with the second that it is counted to; 0 before the first is named."""
    second, at = 0, 0
    while at < len(data):
        if data.startswith(b"#TS:", at):
            end = data.index(b"\r\n", at)
            second, at = int(data[at + 4 : end]), end + 2
            continue
        line = data.index(b"\r\n", at)
        count, at, words = int(data[at + 1 : line]), line + 2, []
        for _ in range(count):
            line = data.index(b"\r\n", at)
            size, first = int(data[at + 1 : line]), line + 2
            words.append(data[first : first + size])
            at = first + size + 2
        yield second, words


def shown(objects: Objects, key: bytes, second: int) -> int | None:
    """The number that a key has at the end of a second; None where it stands in a base."""
    archive = read_archive(objects, ROOT)
    giving = {track.stream: track.begins_ms for track in archive.tracks if track.gives(second)}
    for name in sorted(giving, key=lambda one: giving[one], reverse=True):
        value = None
        for at, words in commands(journal(objects, name)):
            if at > second:
                break
            if words[:2] == [b"SET", key]:
                value = int(words[2])
        if value is not None:
            return value
    return None


def wrong_seconds(objects: Objects, counter: Counter) -> list[str]:
    """Every second that can be restored and does not show what was written by then; at least two can be looked at."""
    found, looked = [], 0
    for span in windows(objects).spans:
        for second in range(span.first, span.last + 1):
            least, most = counter.bounds(second)
            for key in counter.keys:
                value = shown(objects, key, second)
                looked += value is not None
                if value is not None and not least <= value <= most:
                    found.append(f"{key!r} at {second}: {value}, not within {least} and {most}")
    assert looked >= 2 * len(counter.keys)
    return found


def last_second(objects: Objects) -> int:
    """The newest second that can be restored; 0: none."""
    spans = windows(objects).spans
    return spans[-1].last if spans else 0
