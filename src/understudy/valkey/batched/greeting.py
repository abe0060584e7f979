"""How a connection begins: TLS, who we are, which database, and whether it is the server that we mean."""

from __future__ import annotations

import asyncio
import os
from typing import TypeVar

from understudy.errors import ServerSaidError, UnreachableError, UsageError
from understudy.valkey.batched.connection import Connection
from understudy.valkey.target import Address, Target
from understudy.valkey.wire import GREETING_HINT, Command, ReplyError, error_for, hint_for, reason

OPENS_WITHIN_S = 1.0
AnyConnection = TypeVar("AnyConnection", bound=Connection)


class Door:
    """Opens connections to the servers of one target; `primaries_only` refuses a server that is replica by now."""

    def __init__(self, target: Target, *, primaries_only: bool = False) -> None:
        self.target = target
        self._context = target.tls.context() if target.tls else None
        self._greeting: list[Command] = []
        if target.password is not None or target.username:
            user = [target.username] if target.username else []
            self._greeting.append(("AUTH", *user, target.password or ""))
        if target.db:
            self._greeting.append(("SELECT", target.db))
        if primaries_only:
            self._greeting.append(("ROLE",))

    async def open(self, address: Address, connection: AnyConnection) -> AnyConnection:
        """Return the connection, connected and greeted.

        Raises:
            UnreachableError: no server answered in `OPENS_WITHIN_S`, or it is not the one that we mean.
            NotAuthorisedError: it refused who we are.
            UsageError: it has no such database.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(OPENS_WITHIN_S):
                await loop.create_connection(
                    lambda: connection,
                    address.host,
                    address.port,
                    ssl=self._context,
                    server_hostname=address.host if self._context else None,
                )
                await self._greet(address, connection)
        except OSError as error:
            # asyncio puts the address in place of the reason
            why = os.strerror(error.errno) if isinstance(error, ConnectionError) and error.errno else reason(error)
            connection.close(why)
            raise UnreachableError(f"connecting to {address}", why, hint_for(error, self.target)) from error
        except BaseException:
            connection.close("it could not be greeted")
            raise
        return connection

    async def _greet(self, address: Address, connection: Connection) -> None:
        try:
            replies = await connection.ask(*self._greeting)
        except UnreachableError as error:
            error.hint = error.hint or GREETING_HINT
            raise
        for command, reply in zip(self._greeting, replies, strict=True):
            if isinstance(reply, ReplyError):
                raise self._refusal(address, command, reply)
            if command[0] == "ROLE" and reply[0] != b"master":
                raise UnreachableError(f"connecting to {address}", "it is no primary")

    def _refusal(self, address: Address, command: Command, reply: ReplyError) -> Exception:
        error = error_for(address, command, reply)
        if not isinstance(error, ServerSaidError):
            return error
        if command[0] == "SELECT":
            return UsageError(
                f"selecting database {self.target.db} of {address}", error.why,
                "A cluster has database 0 only, unless cluster-databases is set.",
            )  # fmt: skip
        return UnreachableError(f"connecting to {address}", error.why, error.hint)  # too many clients, say
