"""Bring one shard's streams into the repository: bases as they come, pieces every few seconds, what went before first.

Order: the base, then `stream.json`, then pieces by their numbers, then the head. A piece that could not be stored is
stored again as it is, under the same name: nobody knows whether a store that did not answer has it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.backup.pitr.ledger import Ledger, Local, Piece, Shipped, pieces
from understudy.backup.pitr.meter import Meter, Troubles
from understudy.backup.pitr.objects import Objects
from understudy.backup.pitr.pack import Packed, pack, pack_file
from understudy.backup.pitr.stream import HEAD, KEY, STREAM, Base, ChunkName, Gap, Head, StreamInfo
from understudy.errors import IntegrityError, UnderstudyError, out_of_room
from understudy.progress import Silent

if TYPE_CHECKING:
    from understudy.backup.encryption import Lock

_MOST_BACKOFF_S = 30.0
STOPPED = "the archiver was stopped"


@dataclass(frozen=True)
class About:
    """What is the same of every stream of an archive; `last_ms` up to when this shard was archived before."""

    name: str
    profile: str
    mode: str
    server: str
    databases: int
    tool: str


@dataclass(frozen=True)
class _Sealing:
    """How the objects of one stream are encrypted."""

    recipients: tuple[Any, ...] | None = None
    about: dict[str, Any] | None = None


class Shipper:
    """Ships one shard's ledger, in a thread of its own, every `every_s` seconds until `stop`; `bug` as in Follower."""

    def __init__(
        self,
        objects: Objects,
        root: str,
        about: About,
        lock: Lock | None,
        every_s: float,
        ledger: Ledger,
        work: Path,
        meter: Meter,
        troubles: Troubles,
        last_ms: int | None,
    ) -> None:
        self.bug: BaseException | None = None
        self.unshipped: str | None = None  # why the last shipping failed
        self.lost: str | None = None  # why what is still to be shipped never can be
        self._objects, self._root, self._about, self._lock = objects, root, about, lock
        self._every_s, self._ledger, self._work, self._meter, self._troubles = every_s, ledger, work, meter, troubles
        self._last_ms = last_ms
        self._sealing: dict[str, _Sealing] = {}
        self._pending: dict[str, tuple[Piece, ChunkName, Packed]] = {}
        self._heads: dict[str, Head] = {}
        self._bases: dict[str, threading.Thread] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"ship-{meter.shard}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ship once more, then end."""
        self._over.set()

    def join(self, within_s: float) -> bool:
        """Wait for the end; False where it did not come in time."""
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        backoff_s = 1.0
        wait_s = min(self._every_s, 1.0)  # a stream is there soon after its base
        try:
            while not self._over.wait(wait_s):
                if self._attempt():
                    backoff_s, wait_s = 1.0, self._every_s
                else:
                    wait_s, backoff_s = backoff_s, min(_MOST_BACKOFF_S, backoff_s * 2)
            self._attempt(final=True)
        except BaseException as error:  # noqa: BLE001 - raised again by whoever started us
            self.bug = error

    def _attempt(self, final: bool = False) -> bool:
        try:
            self._round(final)
        except (UnderstudyError, OSError) as error:
            told = out_of_room(error) if isinstance(error, OSError) else error
            self.unshipped = str(told)
            self._troubles.have("shipping", told)
            self.lost = self._missing()
            return False
        self.unshipped = self.lost = None
        self._troubles.over("shipping")
        return True

    def _missing(self) -> str | None:
        """Return what of this disk is to be shipped and is not there any more: no trying again brings it back."""
        for stream in self._ledger.streams():
            if stream.dropped or (stream.id in self._bases and not stream.published):
                continue
            pending, end = self._pending.get(stream.id), stream.points[-1].end if stream.points else 0
            files = [pending[2].path] if pending else [path for path, *_ in stream.extent(stream.shipped.end, end)]
            if gone := [path.name for path in files if not path.exists()]:
                return f"{gone[0]}, which was still to be shipped, is gone from this disk"
        return None

    def _round(self, final: bool) -> None:
        """Ship everything that is there."""
        for stream in self._ledger.streams():
            if stream.dropped or (stream.over and stream.base is None):
                self._finish(stream)
            elif stream.published:
                self._ship(stream)
                if stream.over:
                    self._finish(stream)
            elif not final:
                self._publish(stream)
        for stream, following in pairwise(self._ledger.streams()):
            reached_ms = stream.shipped.at_ms or 0
            if following.published and following.previous == stream.id and reached_ms >= following.begins_ms:
                self._ledger.end(f"{following.id} continues it", [stream])
                self._finish(stream)
        if final:
            for stream in self._ledger.streams():
                if stream.published:
                    self._put_head(stream, STOPPED)

    def _ship(self, stream: Local) -> None:
        """Ship what is new of one stream."""
        self._put_slots(stream)
        pending = self._pending.get(stream.id)
        if pending:
            self._put_piece(stream, *pending)
        points = self._ledger.take(stream)
        missed_from_ms = stream.shipped.at_ms
        for piece in pieces(stream.shipped, points):
            if stream.dropped:
                return
            if missed_from_ms is not None and piece.from_ms > missed_from_ms:
                self._meter.missed_seconds += (piece.from_ms - missed_from_ms) // 1000
            missed_from_ms = piece.until_ms
            self._put_piece(stream, piece, *self._packed(stream, piece))
        if points and not stream.dropped:
            self._ledger.shipped(stream, replace(stream.shipped, at_ms=points[-1].at_ms))
        self._put_head(stream, None)

    def _packed(self, stream: Local, piece: Piece) -> tuple[ChunkName, Packed]:
        recipients = self._sealing[stream.id].recipients
        extent = stream.extent(piece.start, piece.end)
        packed = pack(extent, self._work / f"{stream.id}.piece", recipients)
        name = ChunkName(
            stream.shipped.seq, piece.from_ms, piece.until_ms, packed.plain_size, packed.sha256[:16],
            recipients is not None,
        )  # fmt: skip
        self._pending[stream.id] = piece, name, packed
        return name, packed

    def _put_piece(self, stream: Local, piece: Piece, name: ChunkName, packed: Packed) -> None:
        self._objects.put_file(f"{self._root}/{stream.id}/{name}", packed.path)
        self._meter.shipped_bytes += packed.size
        del self._pending[stream.id]
        packed.path.unlink()
        at_ms = max(piece.until_ms, stream.shipped.at_ms or 0)
        self._ledger.shipped(stream, Shipped(piece.until_ms, at_ms, piece.end, name.seq + 1))

    def _put_head(self, stream: Local, ended: str | None) -> None:
        shipped = stream.shipped
        if shipped.at_ms is None:
            return
        before = self._heads.get(stream.id)
        told = (shipped.at_ms, shipped.seq, ended)
        if before is None or (before.until_ms, before.seq, before.ended) != told:
            meter = self._meter
            head = Head(
                shipped.at_ms, shipped.seq, int(time.time() * 1000), stream.offset, meter.lag_bytes, meter.lag_ms,
                ended, stream.slots_put,
            )  # fmt: skip
            self._objects.put(f"{self._root}/{stream.id}/{HEAD}", head.encode())
            self._heads[stream.id] = head
        self._meter.shipped_ms = max(self._meter.shipped_ms or 0, shipped.at_ms)
        self._meter.last_put_s = time.time()

    def _put_slots(self, stream: Local) -> None:
        told = self._ledger.slots_of(stream)
        for one in told[stream.slots_put :]:
            self._objects.put(f"{self._root}/{stream.id}/{one.path}", one.encode())
            stream.slots_put += 1

    def _finish(self, stream: Local) -> None:
        """Say of a stream that nothing follows, and forget it."""
        if stream.published:
            self._put_head(stream, stream.over)
            self._last_ms = max(self._last_ms or 0, stream.shipped.at_ms or 0) or None
        self._ledger.strike(stream)
        for known in (self._sealing, self._pending, self._heads, self._bases):
            known.pop(stream.id, None)
        for left in self._work.glob(f"{stream.id}.*"):
            left.unlink(missing_ok=True)

    def _publish(self, stream: Local) -> None:
        """Have a base brought there in a thread of its own, for it may be large: pieces do not wait for it.

        Where a stream continues none, all that went before is shipped first: then it is known how long the gap is.
        """
        if stream.base is None or stream.id in self._bases:
            return
        if stream.previous is None and self._ledger.streams()[0] is not stream:
            return
        thread = threading.Thread(target=self._bring_base, args=(stream,), name=f"base-{stream.id}", daemon=True)
        self._bases[stream.id] = thread
        thread.start()

    def _bring_base(self, stream: Local) -> None:
        backoff_s = 1.0
        packed: Packed | None = None
        try:
            while not stream.dropped and not self._over.is_set():
                try:
                    packed = packed or self._packed_base(stream)
                    self._put_base(stream, packed)
                except (UnderstudyError, OSError) as error:
                    if stream.dropped:
                        return
                    told = out_of_room(error) if isinstance(error, OSError) else error
                    self._troubles.have("a base", told)
                    source = packed.path if packed else stream.base
                    if source and not source.exists():
                        self.lost = f"{source.name}, a base that was still to be shipped, is gone from this disk"
                        return
                    self._over.wait(backoff_s)
                    backoff_s = min(_MOST_BACKOFF_S, backoff_s * 2)
                    continue
                self._troubles.over("a base")
                return
        except BaseException as error:  # noqa: BLE001 - raised again by whoever started us
            self.bug = error

    def _packed_base(self, stream: Local) -> Packed:
        if stream.base is None:
            raise IntegrityError("packing a base", "there is none")
        sealing, folder = _Sealing(), f"{self._root}/{stream.id}"
        if self._lock:
            with self._lock.fresh(Silent()) as fresh:
                sealing = _Sealing(fresh.recipients, fresh.as_data())
                if fresh.sealed:
                    self._objects.put(f"{folder}/{KEY}", fresh.sealed.result())
        self._sealing[stream.id] = sealing
        packed = pack_file(stream.base, self._work / f"{stream.id}.base", sealing.recipients)
        stream.base.unlink(missing_ok=True)  # the server needs it no more: it is never started again
        return packed

    def _put_base(self, stream: Local, packed: Packed) -> None:
        name = "base.rdb.gz" if self._sealing[stream.id].recipients is None else "base.rdb.gz.age"
        folder = f"{self._root}/{stream.id}"
        self._objects.put_file(f"{folder}/{name}", packed.path)
        self._put_slots(stream)
        gap = Gap(self._last_ms, stream.gap_why) if stream.gap_why and self._last_ms is not None else None
        info = StreamInfo(
            id=stream.id, name=self._about.name, profile=self._about.profile, node=stream.node, replid=stream.replid,
            offset=stream.offset, mode=self._about.mode, server=self._about.server, databases=self._about.databases,
            base=Base(name, packed.size, packed.sha256, packed.plain_size), begins_ms=stream.begins_ms,
            encryption=self._sealing[stream.id].about, previous=stream.previous, gap=gap, tool=self._about.tool,
        )  # fmt: skip
        self._objects.put(f"{folder}/{STREAM}", info.encode())
        packed.path.unlink(missing_ok=True)
        self._meter.shipped_bytes += packed.size
        self._meter.streams += 1
        self._meter.gaps += gap is not None
        stream.published = True
