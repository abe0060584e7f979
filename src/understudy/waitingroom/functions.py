"""Calls an operation on the server that has the event, and brings it the code first where that is missing."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from understudy.errors import NotAuthorisedError, ServerSaidError
from understudy.valkey.batched import BatchedClient
from understudy.valkey.target import Mode
from understudy.valkey.wire import Reply, ReplyError
from understudy.waitingroom import keys
from understudy.waitingroom.library import LIBRARIES, Library

_UNUSED_AFTER_MS = 24 * 3600 * 1000
_NO_FUNCTIONS = ("unknown command", "unknown subcommand", "unsupported command", "NOPERM")
_THERE = "already exists"
_TRIES = 3  # the owner may change between loading and calling


class Functions:
    """Server functions where there are some, else scripts."""

    def __init__(self, client: BatchedClient, library: Library) -> None:
        self._client = client
        self._library = library
        self._refused = False
        self._unflagged = False

    @property
    def scripts(self) -> bool:
        """Return whether scripts are used: where functions are refused, and behind a proxy.

        FUNCTION names no key: an endpoint in front of several nodes does not pass it on to all of them.
        """
        return self._refused or self._client.mode is Mode.ENTERPRISE

    async def call(
        self, operation: str, its_keys: Sequence[str], arguments: Sequence[str | int], *, within_s: float, replicas: int
    ) -> Reply:
        """Return the reply; the operation must be safe to repeat.

        Raises:
            UnreachableError: no answer in time; what was done is not known.
            ServerSaidError: the code does not run there.
        """
        if not self.scripts:  # as nearly always: nothing more than must be done for each request
            words = ("FCALL", self._library.functions[operation], len(its_keys), *its_keys, *arguments)
            try:
                return await self._client.execute(words, its_keys[0], within_s=within_s, acknowledged_by=replicas)
            except (NotAuthorisedError, ServerSaidError) as error:
                said = error
        else:
            said = None
        return await self._call_again(said, operation, its_keys, arguments, time.monotonic() + within_s, replicas)

    async def _call_again(
        self,
        said: NotAuthorisedError | ServerSaidError | None,
        operation: str,
        its_keys: Sequence[str],
        arguments: Sequence[str | int],
        ends_s: float,
        replicas: int,
    ) -> Reply:
        """Call an operation whose function is not there, by what the server said; or whose script may not be."""

        async def run(command: str, code: str) -> Reply:
            words = (command, code, len(its_keys), *its_keys, *arguments)
            left_s = ends_s - time.monotonic()
            return await self._client.execute(words, its_keys[0], within_s=left_s, acknowledged_by=replicas)

        for _ in range(_TRIES):
            if said is None or self.scripts:
                break
            if isinstance(said, NotAuthorisedError):
                if "NOPERM" not in said.why or "fcall" not in said.why.lower():
                    raise said
                self._refused = True
            elif _says(said.why, _NO_FUNCTIONS):
                self._refused = True
            elif "Function not found" not in said.why:
                raise said
            else:
                await self._load(its_keys[0], ends_s - time.monotonic())
                try:
                    return await run("FCALL", self._library.functions[operation])
                except (NotAuthorisedError, ServerSaidError) as error:
                    said = error
        return await self._run_script(operation, run)

    async def _run_script(self, operation: str, run: Callable[[str, str], Awaitable[Reply]]) -> Reply:
        flagged = not self._unflagged
        try:
            return await run("EVALSHA", self._library.digest(operation, flagged))
        except ServerSaidError as error:
            if not error.why.startswith("NOSCRIPT"):
                raise
        try:
            return await run("EVAL", self._library.script(operation, flagged))
        except ServerSaidError as error:
            if not flagged or "compiling script" not in error.why:
                raise
        self._unflagged = True  # an older server takes the line with the flags for Lua
        return await run("EVAL", self._library.script(operation, False))

    async def _load(self, key: str, within_s: float) -> None:
        """Load the functions on the owner of a key: one shard that is down is no affair of the others.

        Two gateways may do so at once, and a third with another version of the code: each has names of its own.
        """
        try:
            await self._client.execute(("FUNCTION", "LOAD", self._library.source), key, within_s=within_s)
        except (NotAuthorisedError, ServerSaidError) as error:
            if _says(error.why, _NO_FUNCTIONS):
                self._refused = True
            elif _THERE not in error.why:
                raise

    async def load(self, within_s: float) -> None:
        """Load the functions on every primary that has them not yet.

        Raises:
            UnreachableError: one of them did not answer.
        """
        if not self.scripts:
            await self._client.on_primaries(("FUNCTION", "LOAD", self._library.source), within_s=within_s)

    async def forget_unused(self, within_s: float) -> list[str]:
        """Note that this version is in use, and delete versions that no gateway has used for a day; return those.

        This version is loaded on every primary, also on those that joined without it.
        """
        if self.scripts:
            return []
        await self.load(within_s)
        now = self._client.now_ms(keys.LIBRARIES)
        replies = await self._client.on_primaries(("FUNCTION", "LIST", "LIBRARYNAME", LIBRARIES), within_s=within_s)
        rows = [row for found in replies.values() if not isinstance(found, ReplyError) for row in found]
        names = {row[row.index(b"library_name") + 1].decode() for row in rows}
        used = await self._client.execute(
            ("ZRANGE", keys.LIBRARIES, 0, -1, "WITHSCORES"), keys.LIBRARIES, within_s=within_s
        )
        stamps = {name.decode(): float(at) for name, at in zip(used[::2], used[1::2], strict=True)}
        gone = [name for name in names if stamps.get(name, now) < now - _UNUSED_AFTER_MS and name != self._library.name]
        for name in gone:
            await self._client.on_primaries(("FUNCTION", "DELETE", name), within_s=within_s)
            await self._client.execute(("ZREM", keys.LIBRARIES, name), keys.LIBRARIES, within_s=within_s)
        fresh = [self._library.name, *(names - stamps.keys() - {self._library.name})]
        stamped = [word for name in fresh for word in (now, name)]
        await self._client.execute(("ZADD", keys.LIBRARIES, *stamped), keys.LIBRARIES, within_s=within_s)
        return gone


def _says(why: str, signs: Sequence[str]) -> bool:
    return any(sign in why for sign in signs)
