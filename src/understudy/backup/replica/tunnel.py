"""TLS for a copy, whose server was built without it: it follows a port of ours, and we speak TLS to the primary.

Everybody on this machine can reach a port on loopback. So the copy has to show a secret of ours first, in place of the
password; the real one is sent to the primary by us, and stands in no file. Where the source asks for client
certificates, that keeps others from entering with ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ssl
import threading

from understudy.backup.pump import CHUNK_BYTES, pump
from understudy.errors import UnderstudyError, UnreachableError
from understudy.lab.layout import HOST
from understudy.valkey.target import Address, Target, Tls
from understudy.valkey.wire import CONNECT_TIMEOUT_S, READ_TIMEOUT_S, hint_for, pack, reason

_MOST_GREETING_BYTES = 1 << 16
_GREETS_WITHIN_S = 10.0


class Tunnel:
    """Passes a copy's connections on to one primary until it is closed; it ends with us.

    `address` is where the copy finds it, `trouble` why the last connection failed.

    Raises:
        UsageError: a certificate cannot be read.
    """

    def __init__(self, primary: Address, target: Target, secret: str) -> None:
        self._primary, self._target, self._secret = primary, target, secret
        self._context = (target.tls or Tls()).context()
        self.trouble = ""
        self.address = Address(HOST, 0)
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._failed: BaseException | None = None
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="copy-tls", daemon=True)
        self._thread.start()
        ready.wait()
        if self._failed is not None:
            raise UnreachableError("opening a port for a copy", str(self._failed)) from self._failed

    def close(self) -> None:
        """End it and every connection through it; harmless to repeat."""
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _run(self, ready: threading.Event) -> None:
        try:
            self._loop.run_until_complete(self._serve(ready))
        except OSError as error:
            self._failed = error
        finally:
            self._loop.close()
            ready.set()

    async def _serve(self, ready: threading.Event) -> None:
        server = await asyncio.start_server(self._handle, HOST, 0, limit=CHUNK_BYTES)
        self.address = Address(HOST, server.sockets[0].getsockname()[1])
        ready.set()
        await self._over.wait()
        server.close()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:  # a connection may have come just now
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)  # a turn in which the sockets are closed

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened = [writer]
        try:
            await self._relay(reader, writer, opened)
        except asyncio.CancelledError:  # that is `close`: nobody waits for what has not been sent
            for one in opened:
                one.transport.abort()
        finally:
            for one in opened:
                one.close()

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, opened: list[asyncio.StreamWriter]
    ) -> None:
        try:
            async with asyncio.timeout(_GREETS_WITHIN_S):
                rest = await self._greeted(reader, writer)
            if rest is None:
                return
            there, back = await self._connect(opened)
        except (OSError, EOFError, ValueError) as error:
            self.trouble = self._told(error)
            return
        except UnderstudyError as error:
            self.trouble = error.why
            writer.write(f"-{error.why}\r\n".encode())
            return
        self.trouble = ""
        writer.write(b"+OK\r\n")  # to its AUTH
        back.write(rest)
        with contextlib.suppress(OSError, EOFError):
            await asyncio.gather(pump(reader, back), pump(there, writer))

    def _told(self, error: OSError | EOFError | ValueError) -> str:
        if isinstance(error, ssl.SSLError):
            return f"{reason(error)}. {hint_for(error, self._target)}"
        return reason(error) if isinstance(error, OSError) else str(error)

    async def _greeted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        """Answer PING, take AUTH with our secret, and return what was sent after it; None for anybody else."""
        data = b""
        while True:
            while (parsed := _command(data)) is not None:
                words, data = parsed
                if words[0].upper() == b"PING":
                    writer.write(b"+PONG\r\n")
                elif words[0].upper() == b"AUTH" and hmac.compare_digest(words[-1], self._secret.encode()):
                    return data
                else:
                    writer.write(b"-NOAUTH this port is a copy's own\r\n")
                    return None
            more = await reader.read(CHUNK_BYTES)
            if not more or len(data) > _MOST_GREETING_BYTES:
                return None
            data += more

    async def _connect(self, opened: list[asyncio.StreamWriter]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a connection to the primary over which it knows who we are."""
        async with asyncio.timeout(CONNECT_TIMEOUT_S + READ_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(
                *self._primary, ssl=self._context, server_hostname=self._primary.host, limit=CHUNK_BYTES
            )
            opened.append(writer)
            if self._target.password is not None or self._target.username:
                user = [self._target.username] if self._target.username else []
                writer.write(pack(("AUTH", *user, self._target.password or "")))
                answer = (await reader.readline()).decode(errors="replace").strip()
                if not answer.startswith("+"):
                    raise UnreachableError(f"logging in to {self._primary}", answer.lstrip("-") or "it hung up")
        return reader, writer


def _command(data: bytes) -> tuple[list[bytes], bytes] | None:
    """Return the first whole command as words, and what follows it; None where more has to come.

    Raises:
        ValueError: that is no command.
    """
    head, found, rest = data.partition(b"\r\n")
    if not found:
        return None
    if not head.startswith(b"*") or not 0 < int(head[1:]) <= 8:
        raise ValueError("a stranger knocked at a copy's port")
    words: list[bytes] = []
    for _ in range(int(head[1:])):
        head, found, rest = rest.partition(b"\r\n")
        if not found:
            return None
        size = int(head[1:])
        if size < 0 or len(rest) < size + 2:
            return None
        words.append(rest[:size])
        rest = rest[size + 2 :]
    return words, rest
