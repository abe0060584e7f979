"""Read many keys as DUMP payloads with their expiry, fast, and gently to the server's memory.

The fast way is one read-only script a few hundred keys, which stops at a budget of bytes, so that a server never
holds a pile of huge replies for us. Where scripts are refused, or a key is on the move, plain commands do it:
sizes are asked first (MEMORY USAGE) and payloads fetched in windows of the same budget.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

from understudy.errors import UnreachableError
from understudy.valkey.discovery import now_ms, parse_info
from understudy.valkey.router import Router
from understudy.valkey.slots import key_slot, name_in_slot
from understudy.valkey.target import Address, Mode
from understudy.valkey.wire import Command, Reply, ReplyError, Wire, error_for, pack

KEYS_A_STEP = 256
BUDGET_BYTES = 1 << 20
_SCRIPT = files("understudy.valkey").joinpath("dump_many.lua").read_bytes()
_RANKED_SCRIPT = files("understudy.valkey").joinpath("dump_ranked.lua").read_bytes()
Ranks = Literal["IDLETIME", "FREQ"]
GONE = -2  # PEXPIRETIME's own word for a key that does not exist
BIG = -3  # our scripts' word for a key that is to be read in slices


@dataclass(frozen=True)
class Dumped:
    """Names, payloads and expiries side by side; absolute milliseconds, -1 for none. Every key existed.

    `ranks`, where they were asked for, are seconds since the last use, or (`by_use`) the counter of uses.
    """

    keys: list[bytes]
    payloads: list[bytes]
    expiries_ms: list[int]
    ranks: list[int] | None = None
    by_use: bool = False


@dataclass
class Pace:
    """A limit on keys a second, kept by pausing before a step; `keys_per_s` 0 means none."""

    keys_per_s: float = 0.0
    _next_at: float = 0.0

    def spend(self, keys: int) -> None:
        """Wait until this many keys may be read."""
        if not self.keys_per_s:
            return
        now = time.monotonic()
        if self._next_at > now:
            time.sleep(self._next_at - now)
        self._next_at = max(now, self._next_at) + keys / self.keys_per_s


class Dumper:
    """Reads keys through a router. `gone` counts the names that no longer existed when their turn came.

    `ranks` asks each key's idle time or frequency as well, where scripts are allowed; the server's `maxmemory-policy`
    must be one that keeps it. A key that takes more than `most_bytes` of the server's memory (0: any may) is not read
    but put into `big`: one DUMP of it would keep the server busy, and take as much memory again.
    """

    def __init__(
        self, router: Router, pace: Pace | None = None, ranks: Ranks | None = None, most_bytes: int = 0
    ) -> None:
        self._router = router
        self._most_bytes = most_bytes
        self._most_at: dict[Address, int] = {}
        self.big: list[bytes] = []
        self._ranks = ranks
        self._script = _RANKED_SCRIPT if ranks else _SCRIPT
        self._sha1 = hashlib.sha1(self._script, usedforsecurity=False).hexdigest()  # how servers name scripts
        self._rank_words: tuple[str, ...] = (ranks,) if ranks else ()
        self.pace = pace or Pace()
        self._script_works = router.target.mode is not Mode.ENTERPRISE
        self._expiry_command = "PEXPIRETIME"
        # scripts run on connections of their own: plain commands must not wait behind a step under way
        self._wires: dict[Address, Wire] = {}
        self.gone = 0

    def close(self) -> None:
        """Close the connections of its own; the router's stay."""
        for address in list(self._wires):
            self._drop(address)

    def __enter__(self) -> Dumper:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _drop(self, address: Address) -> None:
        if wire := self._wires.pop(address, None):
            wire.close()

    def _wire(self, address: Address) -> Wire:
        if address not in self._wires:
            self._wires[address] = wire = Wire(address, self._router.target)
            if self._ranks:  # a step that finds it missing is read plainly, without ranks
                wire.pipeline([("SCRIPT", "LOAD", self._script)])
        return self._wires[address]

    def most_bytes(self, address: Address) -> int:
        """Return what a key may take at this node; 0 where none can take more, or where the node does not tell."""
        if not self._most_bytes:
            return 0
        if address not in self._most_at:
            probe = name_in_slot()[0]
            memory, asked = self._router.wire(address).pipeline([("INFO", "memory"), ("MEMORY", "USAGE", probe)])
            refused = isinstance(asked, ReplyError) and not str(asked).startswith("MOVED")
            told = not isinstance(memory, ReplyError)
            small = told and int(parse_info(memory).get("used_memory", 0)) <= self._most_bytes
            self._most_at[address] = 0 if refused or small else self._most_bytes
        return self._most_at[address]

    def read_whole(self, key: bytes) -> Iterator[Dumped]:
        """Yield one key, however big it is; nothing where it is gone."""
        return self._fetch([key])

    def take_big(self) -> list[bytes]:
        """Return the keys that are to be read in slices, and forget them."""
        taken, self.big = self.big, []
        return taken

    def read(self, keys: Sequence[bytes], owner: Address | None = None) -> Iterator[Dumped]:
        """Yield the keys that exist, with payload and expiry, in steps of bounded size.

        `owner` is who serves all of them, where that is known; it is found out otherwise.

        Every key is read from whoever owns it at that moment; what has expired or been deleted is counted in `gone`.

        Raises:
            UnreachableError: an owner stayed away for the router's patience.
        """
        if not self._script_works:
            yield from self._read_plainly(keys)
            return
        groups = {owner: list(keys)} if owner else self._by_owner(keys)
        for address, owned in groups.items():
            if address is None:
                yield from self._read_plainly(owned)
            else:
                yield from self._read_by_script(address, owned)

    def _by_owner(self, keys: Sequence[bytes]) -> dict[Address | None, list[bytes]]:
        if self._router.target.mode is not Mode.OSS_CLUSTER:
            return {self._router.owner(None): list(keys)}
        groups: dict[Address | None, list[bytes]] = {}
        for key in keys:
            groups.setdefault(self._router.owner(key_slot(key)), []).append(key)
        return groups

    def _read_by_script(self, address: Address, keys: list[bytes]) -> Iterator[Dumped]:
        """Keep one step under way while the one before is being dealt with."""
        at = 0
        asked: list[list[bytes]] = []  # sent, in order; a step leaves the list when its reply is here
        again: list[bytes] = []
        try:
            while at < len(keys) or again or asked:
                try:
                    wire = self._wire(address)
                    while len(asked) < 2 and (again or at < len(keys)):
                        step = again or keys[at : at + KEYS_A_STEP]
                        at += 0 if again else len(step)
                        again = []
                        asked.append(step)
                        self._ask(wire, step)
                    reply = wire.read()
                except UnreachableError:
                    self._drop(address)
                    rest = [key for step in asked for key in step] + again + keys[at:]
                    asked = []
                    yield from self._read_plainly(rest)
                    return
                step = asked.pop(0)
                if isinstance(reply, ReplyError):
                    yield from self._refused(wire, step, reply)
                else:
                    again += yield from self._sort_out(step, reply)
        finally:
            if asked:
                self._drop(address)  # replies are still on their way; this connection is of no more use

    def _ask(self, wire: Wire, step: list[bytes]) -> None:
        self.pace.spend(len(step))
        most = self.most_bytes(wire.address)
        wire.send(pack(("EVALSHA_RO", self._sha1, 0, BUDGET_BYTES, most, *self._rank_words, *step)))

    def _refused(self, wire: Wire, step: list[bytes], reply: ReplyError) -> Iterator[Dumped]:
        """Load the script where it is not known; otherwise read this step without it."""
        text = str(reply)
        if text.startswith("NOSCRIPT"):
            with contextlib.suppress(UnreachableError):  # reading plainly finds out who took over
                loaded = self._router.wire(wire.address).pipeline([("SCRIPT", "LOAD", self._script)])[0]
                self._script_works = not isinstance(loaded, ReplyError)
        elif "unknown command" in text or text.startswith("NOPERM"):
            self._script_works = False
        yield from self._read_plainly(step)

    def _sort_out(self, step: list[bytes], reply: Reply) -> Generator[Dumped, None, list[bytes]]:
        """Yield what was read; return what was not."""
        if self._ranks:
            payloads, expiries, ranks = reply[0::3], reply[1::3], reply[2::3]
        else:
            payloads, expiries, ranks = reply[0::2], reply[1::2], None
        by_use = self._ranks == "FREQ"
        if None not in payloads:
            yield Dumped(step, payloads, expiries, ranks, by_use)
            return []
        here = [at for at, payload in enumerate(payloads) if payload is not None]
        if here:
            some = [ranks[at] for at in here] if ranks else None
            yield Dumped(
                [step[at] for at in here], [payloads[at] for at in here], [expiries[at] for at in here], some, by_use
            )
        self.gone += expiries.count(GONE)
        if BIG in expiries:
            self.big += [key for key, expiry in zip(step, expiries, strict=True) if expiry == BIG]
        return [key for key, expiry in zip(step, expiries, strict=True) if expiry is None]

    def _read_plainly(self, keys: Sequence[bytes]) -> Iterator[Dumped]:
        for start in range(0, len(keys), KEYS_A_STEP):
            step = keys[start : start + KEYS_A_STEP]
            self.pace.spend(len(step))
            sizes = self._router.execute([(key_slot(key), ("MEMORY", "USAGE", key)) for key in step]).values
            window: list[bytes] = []
            held = 0
            for key, size in zip(step, sizes, strict=True):
                bytes_held = size if isinstance(size, int) else BUDGET_BYTES // 16  # unknown: be careful
                if self._most_bytes and bytes_held > self._most_bytes:
                    self.big.append(key)
                    continue
                if window and held + bytes_held > BUDGET_BYTES:
                    yield from self._fetch(window)
                    window, held = [], 0
                window.append(key)
                held += bytes_held
            if window:
                yield from self._fetch(window)

    def _fetch(self, keys: list[bytes]) -> Iterator[Dumped]:
        commands: list[tuple[int | None, Command]] = []
        for key in keys:
            slot = key_slot(key)
            commands += [(slot, ("DUMP", key)), (slot, (self._expiry_command, key))]
        values = self._router.execute(commands).values
        if self._expiry_command == "PEXPIRETIME" and any(_unknown(value) for value in values[1::2]):
            self._expiry_command = "PTTL"  # Redis before 7.0
            yield from self._fetch(keys)
            return
        ahead_ms = 0
        if self._expiry_command == "PTTL":  # it says how long still, not until when
            ahead_ms = now_ms(self._router.wire(self._router.owner(0) or self._router.target.seeds[0]))
        kept = Dumped([], [], [])
        for key, payload, expiry in zip(keys, values[0::2], values[1::2], strict=True):
            for name, value in (("DUMP", payload), (self._expiry_command, expiry)):
                if isinstance(value, ReplyError):
                    raise error_for(self._router.owner(key_slot(key)) or self._router.target.seeds[0], (name,), value)
            if payload is None or expiry == GONE:
                self.gone += 1
                continue
            kept.keys.append(key)
            kept.payloads.append(payload)
            kept.expiries_ms.append(expiry + ahead_ms if expiry >= 0 else expiry)
        if kept.keys:
            yield kept


def _unknown(value: Reply) -> bool:
    return isinstance(value, ReplyError) and ("unknown command" in str(value) or "unsupported" in str(value))
