"""TLS for programs that were built without it: they talk to a socket here, and we talk TLS to the server.

The wheel's pg_dump and pg_restore know no TLS. A server that wants it is reached through a socket in a directory
that only we can enter; certificates are checked as `sslmode` and its fellows in the URL say.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from understudy.backup.pump import CHUNK_BYTES, pump
from understudy.errors import UsageError

_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"  # length 8, code 80877103
PORT = 5432  # of the socket's name; nothing listens on a port


def context_from(params: Mapping[str, Any]) -> ssl.SSLContext:
    """Return how the server's certificate is checked, and which is our own.

    Raises:
        UsageError: a file that the URL names cannot be read.
    """
    home = Path("~/.postgresql").expanduser()

    def value(name: str) -> str | None:
        return params.get(name) or os.environ.get(f"PG{name.upper()}")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if value("sslnegotiation") == "direct":
        context.set_alpn_protocols(["postgresql"])
    mode = value("sslmode") or "prefer"
    root = value("sslrootcert") or (str(home / "root.crt") if (home / "root.crt").exists() else None)
    try:
        if root == "system":
            context.load_default_certs()
            mode = "verify-full"
        elif root:
            context.load_verify_locations(root)
        # with a root certificate `require` means verify-ca: libpq's own rule
        if mode in {"verify-ca", "verify-full"} or (mode == "require" and root):
            context.verify_mode = ssl.CERT_REQUIRED
            context.check_hostname = mode == "verify-full"
        certificate = value("sslcert") or str(home / "postgresql.crt")
        if value("sslcert") or Path(certificate).exists():
            context.load_cert_chain(
                certificate, value("sslkey") or str(home / "postgresql.key"), lambda: params.get("sslpassword") or ""
            )
        if revoked := value("sslcrl"):
            context.load_verify_locations(revoked)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(
            "reading the certificates of POSTGRES_URL", str(error), "Check sslrootcert, sslcert and sslkey."
        ) from None
    return context


@contextlib.contextmanager
def relayed(directory: Path, host: str, port: int, params: Mapping[str, Any]) -> Iterator[None]:
    """Listen on a socket in `directory`, under the name that libpq looks for, while the block runs."""
    relay = _Relay(directory, host, port, context_from(params), params.get("sslnegotiation") == "direct")
    thread = threading.Thread(target=relay.run, name="postgres-tls", daemon=True)
    thread.start()
    relay.ready.wait()
    try:
        yield
    finally:
        relay.end()
        thread.join()


class _Relay:
    def __init__(self, directory: Path, host: str, port: int, context: ssl.SSLContext, direct: bool) -> None:
        self._path = directory / f".s.PGSQL.{PORT}"
        self._host, self._port, self._context, self._direct = host, port, context, direct
        self.ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()

    def run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)

    async def _serve(self) -> None:
        server = await asyncio.start_unix_server(self._handle, str(self._path), limit=CHUNK_BYTES)
        self.ready.set()
        await self._over.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError), contextlib.closing(writer):
            there, back = await self._server()
            with contextlib.closing(back):
                await asyncio.gather(pump(reader, back), pump(there, writer))

    async def _server(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._direct:
            return await asyncio.open_connection(
                self._host, self._port, ssl=self._context, server_hostname=self._host, limit=CHUNK_BYTES
            )
        reader, writer = await asyncio.open_connection(self._host, self._port, limit=CHUNK_BYTES)
        writer.write(_SSL_REQUEST)
        if await reader.readexactly(1) != b"S":
            writer.close()
            raise ConnectionError("the server speaks no TLS")
        await writer.start_tls(self._context, server_hostname=self._host)
        return reader, writer
