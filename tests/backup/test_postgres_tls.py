"""A server that wants TLS: asked and dumped over it, its certificate checked, also by programs that know no TLS.

The wheel's server has no TLS itself; here a front before it ends the encryption, as a provider's proxy does.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from backup_of_postgres import restored
from postgres import ask
from understudy.backup.components.postgres import PostgresComponent
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.take import take
from understudy.errors import UnderstudyError
from understudy.lab.certificates import make
from understudy.lab.ports import claim_few
from understudy.lab.servers.postgres import ScratchPostgres
from understudy.progress import Silent

_SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    finally:
        sink.close()


@contextlib.contextmanager
def front(port: int, behind: int, context: ssl.SSLContext, plain: list[bytes]) -> Iterator[None]:
    """Speak TLS on `port` and pass on to `behind`; whoever asks for anything but TLS stands in `plain`."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            asked = await reader.readexactly(8)
            if asked != _SSL_REQUEST:
                plain.append(asked)
                writer.close()
                return
            writer.write(b"S")
            await writer.start_tls(context)
            there, back = await asyncio.open_connection("127.0.0.1", behind)
            await asyncio.gather(_pump(reader, back), _pump(there, writer))

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    server = loop.run_until_complete(asyncio.start_server(handle, "127.0.0.1", port))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield

    async def end() -> None:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    asyncio.run_coroutine_threadsafe(end(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_server_behind_tls_is_backed_up_and_restored_and_its_certificate_is_checked(
    postgres_18: ScratchPostgres, database: str, tmp_path: Path
) -> None:
    ask(postgres_18, "CREATE TABLE t AS SELECT md5(n::text) FROM generate_series(1, 50000) n", database)
    made = make(_folder(tmp_path / "tls"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    block = claim_few()
    plain: list[bytes] = []
    url = postgres_18.url(database).replace(f":{postgres_18.port}/", f":{block.first}/")
    with front(block.first, postgres_18.port, context, plain):
        component = PostgresComponent(f"{url}?sslmode=verify-full&sslrootcert={made.authority}")
        backup = take([component], LocalRepository(tmp_path / "sets"), None, "local", Silent()).backup
        ask(postgres_18, "DROP TABLE t", database)
        assert restored(component, backup) == []
        assert component.compare(backup, Silent()).differences == ()
        component.close()
        other = make(_folder(tmp_path / "other"))
        wrong = PostgresComponent(f"{url}?sslmode=verify-full&sslrootcert={other.authority}")
        with pytest.raises(UnderstudyError, match="certificate verify failed") as caught:
            wrong.connect()
        assert caught.value.exit_code == 10
    block.release()
    assert plain == []
