"""Keys that a set holds as files of commands, for want of a payload: counted by their files, read by running them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from understudy.backup.big.format import REQUIRES, BigKey, batches, big_keys
from understudy.backup.inspect.tally import Tally
from understudy.backup.inspect.values import Decoder, Readable
from understudy.backup.record import Records
from understudy.backup.set import BackupSet
from understudy.valkey.wire import ReplyError

_BATCH_BYTES = 1 << 16
_AT_ONCE = 1_000


def of(backup: BackupSet, fits: Callable[[bytes], object] | None) -> Iterator[BigKey]:
    """Yield the big keys of a set whose names fit; None: all."""
    if REQUIRES in backup.metadata.requires:
        yield from (big for big in big_keys(backup) if not fits or fits(big.key))


def count_into(tally: Tally, backup: BackupSet, fits: Callable[[bytes], object] | None) -> None:
    """Count them beside the others."""
    some: list[BigKey] = []
    for big in of(backup, fits):
        some.append(big)
        if len(some) == _AT_ONCE:
            _count(tally, some)
            some = []
    if some:
        _count(tally, some)


def _count(tally: Tally, some: list[BigKey]) -> None:
    records = Records(
        [big.key for big in some], [big.db for big in some], [big.kind for big in some],
        [big.expire_at_ms for big in some], [],
    )  # fmt: skip
    tally.add(records, [big.size for big in some])


def value(decoder: Decoder, backup: BackupSet, big: BigKey) -> Readable:
    """Return a big key's value: no more of its commands are run than what is told of it takes."""
    most, wire, ran, whole = decoder.most_bytes, decoder.wire, 0, True
    for batch in batches(backup.directory, big, _BATCH_BYTES):
        if most is not None and ran > 2 * most:
            whole = False
            break
        for reply in wire.pipeline(batch):
            if isinstance(reply, ReplyError):
                wire.call("FLUSHDB")
                return Readable(error=f"the server cannot build it: {reply}")
        ran += sum(len(word) if isinstance(word, bytes) else 8 for command in batch for word in command)
    told = decoder.values(big.kind, [big.key])[0]
    wire.call("FLUSHDB")
    if whole:
        return told
    if big.kind == "stream":  # what stands at the end of its commands
        told.value |= {"last_id": None, "groups": None}
    return replace(told, length=big.length, truncated=True)
