"""Build keys anew on servers that refuse their payloads: many small ones a round trip, big ones slice by slice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from understudy.backup.anywhere.commands import PAD, commands_of
from understudy.backup.anywhere.fit import Owners
from understudy.backup.anywhere.losses import WHOLE_KEY, Losses, is_module, line, told_by_payload, told_by_stream
from understudy.backup.anywhere.same import same
from understudy.backup.anywhere.values import KINDS, Value, read_values
from understudy.backup.component import RestoreReport
from understudy.valkey import slices
from understudy.valkey.payload import TYPE_NAMES
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot, name_in_slot
from understudy.valkey.target import Target
from understudy.valkey.wire import Command, Reply, ReplyError, Wire, pack

_SCRIPT = files("understudy.backup.anywhere").joinpath("build.lua").read_bytes()
_SHA1 = hashlib.sha1(_SCRIPT, usedforsecurity=False).hexdigest()  # how servers name scripts
SMALL_BYTES = 128 << 10  # of a payload; unpacked it may have a hundred times as many
_BATCH_KEYS = 512
_MOST_WORDS = 7000  # of a command in a script: Lua unpacks at most 8,000
_SLICE_BYTES = 1 << 20
_NO_SCRIPTS = ("NOPERM", "ERR unknown command", "ERR unsupported command")


class Entry(NamedTuple):
    """A key to be built: what it is, and how long it had not been used or how often it was, where that is known."""

    key: bytes
    expire_at_ms: int | None
    payload: bytes
    idle_s: int | None = None
    freq: int | None = None


class _UnreadableError(Exception):
    """The scratch server does not read a payload; the text is its answer."""


class Rebuilder:
    """Builds keys of one set; what it does is counted in `report`. `plan` is that of `tasks/write_keys.py`.

    `drop_groups` removes the groups of streams, where they are not wanted and came with a stream nevertheless.
    """

    def __init__(
        self,
        plan: Mapping[str, Any],
        report: RestoreReport,
        name_of: Callable[[bytes], str],
        drop_groups: Callable[[Router, Sequence[bytes]], None],
    ) -> None:
        self._report, self._name_of, self._drop_groups = report, name_of, drop_groups
        self._overwrite, self._accept = bool(plan["overwrite"]), bool(plan.get("accept_loss"))
        self._groups = bool(plan["recreate_stream_groups"])
        self._owners = Owners(plan.get("holders") or {})
        self._source = Target.from_data(plan["scratch"]) if plan.get("scratch") else None
        self._opened: Wire | None = None
        self._scripts = True
        self._loaded: set[int] = set()
        self.losses = Losses()

    def refused(self, router: Router, keys: Sequence[bytes], payloads: Sequence[bytes]) -> list[int]:
        """Return the places of keys whose owners are known to refuse their payloads."""
        if not self._source:
            return []
        pairs = zip(keys, payloads, strict=True)
        return [at for at, (key, payload) in enumerate(pairs) if self._owners.refuse(router, key, payload)]

    def takes(self, reply: Reply) -> bool:
        """Tell whether an answer to RESTORE means that the key is to be built."""
        return bool(self._source) and isinstance(reply, ReplyError) and "version or checksum" in str(reply)

    def write(self, router: Router, entries: Sequence[Entry], now_ms: int) -> None:
        """Build keys of one database. `now_ms` is the target's clock: what has expired by then is left out."""
        for batch in _batches(entries):
            if len(batch) == 1 and len(batch[0].payload) > SMALL_BYTES:
                self._write_big(router, batch[0])
            else:
                self._write_small(router, batch, now_ms)

    def lost_whole(self, router: Router, entry: Entry, why: str) -> None:
        """Note a key that cannot be restored at all: an accepted loss, or a failure."""
        if self._accept:
            self._note(router, entry, {WHOLE_KEY})
        else:
            self._report.fail(f"{self._name_of(entry.key)}: {why}")

    # -- small ones

    def _write_small(self, router: Router, batch: Sequence[Entry], now_ms: int) -> None:
        values = read_values(self._wire, [entry.payload for entry in batch])
        commands: list[tuple[int | None, bytes]] = []
        plain: list[tuple[Entry, set[str], list[Command]]] = []
        ready: list[tuple[Entry, set[str]]] = []
        for entry, value in zip(batch, values, strict=True):
            if isinstance(value, ReplyError):
                self._unreadable(router, entry, value)
                continue
            able = self._owners.of(router, entry.key).abilities
            lost = told_by_payload(entry.payload, able, entry.idle_s, entry.freq)
            if value.kind == "stream":
                lost |= told_by_stream(value, able, self._groups)
            if lost and not self._accepted(entry, lost):
                continue
            slot = key_slot(entry.key)
            if value.kind == "string":
                commands.append((slot, pack(self._set(entry, value))))
                ready.append((entry, lost))
                continue
            place = name_in_slot()[slot] if self._overwrite else entry.key
            built = commands_of(value, place, able, groups=self._groups, now_ms=now_ms)
            if not built:
                self._report.expired += 1
            elif self._scripts and max(map(len, built)) <= _MOST_WORDS:
                commands.append((slot, _packed(entry, place, built)))
                ready.append((entry, lost))
            else:  # an entry of a stream may have more words than a script can pass on
                plain.append((entry, lost, built))
        if commands:
            if self._scripts:
                self._load(router)
            replies = router.execute(commands)
            for at, (entry, lost) in enumerate(ready):
                self._count(router, entry, lost, replies.values[at], at in replies.resent)
        for entry, lost, built in plain:
            self._in_slices(router, entry, lambda built=built: [built], lost)  # type: ignore[misc]

    def _set(self, entry: Entry, value: Value) -> Command:
        expiry: tuple[str | int, ...] = ("PXAT", entry.expire_at_ms) if entry.expire_at_ms is not None else ()
        return ("SET", entry.key, value.reply, *expiry, *(() if self._overwrite else ("NX",)))

    def _load(self, router: Router) -> None:
        """Bring the script to every primary, once a connection."""
        if id(router) not in self._loaded:
            router.on_primaries("SCRIPT", "LOAD", _SCRIPT)
            self._loaded.add(id(router))

    def _count(self, router: Router, entry: Entry, lost: set[str], reply: Reply, resent: bool) -> None:
        if reply in (b"OK", b"written"):
            self._done(router, entry, lost)
        elif reply is None or reply == b"exists":
            if resent and self._is_ours(router, entry):
                self._done(router, entry, lost)  # the first try got through, only its answer was lost
            else:
                self._report.skipped += 1
        elif reply == b"expired":
            self._report.expired += 1
        elif str(reply).startswith("NOSCRIPT"):
            self._loaded.discard(id(router))  # another primary took over, or somebody flushed its scripts
            self._again(router, entry, lost)
        elif str(reply).startswith(_NO_SCRIPTS):
            self._scripts = False
            self._again(router, entry, lost)
        else:
            self._report.fail(f"{self._name_of(entry.key)}: {reply}")

    def _again(self, router: Router, entry: Entry, lost: set[str]) -> None:
        self._in_slices(router, entry, lambda: self._slices(router, entry), lost)

    def _done(self, router: Router, entry: Entry, lost: set[str]) -> None:
        self._report.restored += 1
        if lost:
            self._note(router, entry, lost)

    def _is_ours(self, router: Router, entry: Entry) -> bool:
        there = router.execute([(key_slot(entry.key), ("DUMP", entry.key))]).values[0]
        return isinstance(there, bytes) and same(self._wire, entry.payload, there)

    # -- big ones, and where scripts are refused

    def _write_big(self, router: Router, entry: Entry) -> None:
        able = self._owners.of(router, entry.key).abilities
        lost = told_by_payload(entry.payload, able, entry.idle_s, entry.freq)
        kind = TYPE_NAMES[entry.payload[0]]
        if kind == "stream":
            value = read_values(self._wire, [entry.payload], entries=1)[0]
            lost |= told_by_stream(value, able, self._groups) if isinstance(value, Value) else set()
        if not lost or self._accepted(entry, lost):
            self._in_slices(router, entry, lambda: self._slices(router, entry), lost)

    def _slices(self, router: Router, entry: Entry) -> Iterator[Sequence[Command]]:
        """Yield the commands of a key, slice by slice, from the scratch server."""
        wire, kind = self._wire, TYPE_NAMES[entry.payload[0]]
        reply = wire.pipeline([("RESTORE", b"0", 0, entry.payload, "REPLACE")])[0]
        if isinstance(reply, ReplyError) or kind not in KINDS:
            raise _UnreadableError(str(reply))
        able = self._owners.of(router, entry.key).abilities
        newest = None if able.field_expiries else ("redis", (7, 0) if able.stream_counters else (6, 2))
        try:
            zeros = kind == "zset" and wire.call("ZCOUNT", b"0", 0, 0)
            if zeros:
                yield [("ZADD", b"0", 0, PAD)]
            yield from slices.read(wire, b"0", kind, slice_bytes=_SLICE_BYTES, newest=newest)
            if zeros:
                yield [("ZREM", b"0", PAD)]
        finally:
            if not wire.broken:
                wire.pipeline([("FLUSHDB",)])

    def _in_slices(
        self,
        router: Router,
        entry: Entry,
        batches: Callable[[], Any],
        lost: set[str] | frozenset[str] = frozenset(),
    ) -> None:
        try:
            written = slices.write(
                router, entry.key, batches, expire_at_ms=entry.expire_at_ms, overwrite=self._overwrite
            )
        except _UnreadableError as error:
            self._unreadable(router, entry, error)
            return
        if written.outcome == "written":
            self._done(router, entry, set(lost))
            if not self._groups and TYPE_NAMES[entry.payload[0]] == "stream":
                self._drop_groups(router, [entry.key])
        elif written.outcome == "exists":
            self._report.skipped += 1
        elif written.outcome == "expired":
            self._report.expired += 1
        else:
            self._report.fail(f"{self._name_of(entry.key)}: {written.why}")

    # -- what both need

    @property
    def _wire(self) -> Wire:
        """Return the connection to the scratch server: this worker has a database of it to itself."""
        if self._opened is None or self._opened.broken:
            assert self._source  # noqa: S101 - nobody asks otherwise
            self._opened = Wire(self._source.seeds[0], self._source)
            self._opened.pipeline([("FLUSHDB",)])
        return self._opened

    def _accepted(self, entry: Entry, lost: set[str]) -> bool:
        if not self._accept:
            loss = {"key": self._name_of(entry.key), "type": TYPE_NAMES[entry.payload[0]], "db": 0, "lost": lost}
            self._report.fail(f"{line(loss)} would be lost; --accept-loss goes on without it")
        return self._accept

    def _note(self, router: Router, entry: Entry, lost: set[str]) -> None:
        self.losses.note(self._name_of(entry.key), router.target.db, TYPE_NAMES[entry.payload[0]], lost)

    def _unreadable(self, router: Router, entry: Entry, reply: object) -> None:
        if is_module(entry.payload):
            self.lost_whole(router, entry, "a module's value, which the target does not read")
        else:
            self._report.fail(f"{self._name_of(entry.key)}: the scratch server does not read it: {reply}")

    def close(self) -> None:
        """Close the connection to the scratch server."""
        if self._opened:
            self._opened.close()


def _packed(entry: Entry, place: bytes, commands: Sequence[Command]) -> bytes:
    names = (entry.key,) if place == entry.key else (entry.key, place)
    words: list[bytes | str | int] = ["EVALSHA", _SHA1, len(names), *names, entry.expire_at_ms or 0]
    for command in commands:
        words.append(len(command))
        words += command
    return pack(words)


def _batches(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Yield keys together as long as their payloads are small; a big one by itself."""
    batch: list[Entry] = []
    held = 0
    for entry in entries:
        size = len(entry.payload)
        if batch and (held + size > SMALL_BYTES or len(batch) == _BATCH_KEYS):
            yield batch
            batch, held = [], 0
        batch.append(entry)
        held += size
    if batch:
        yield batch
