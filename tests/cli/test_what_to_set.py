"""An error names the setting that mends it."""

from __future__ import annotations

import socket
import threading

import pytest

from conftest import Typed


@pytest.mark.parametrize(
    ("words", "env", "code", "says"),
    [
        (["backup", "--password", "x"], {}, 2, "Try: Set REDIS_PASSWORD (and REDIS_USERNAME)."),
        (["backup", "--url", "redis://a"], {}, 2, "Try: Set REDIS_URL, or REDIS_NODES=host:port."),
        (["backup"], {"REDIS_NODES": "redis://a:1"}, 2, "Try: A URL belongs into REDIS_URL"),
        (["backup"], {"REDIS_NODES": "a:1 b:2"}, 2, "Try: Write several with commas between"),
        (["list"], {"BACKUP_DAILY_RETENTION": "0"}, 2, "For ever: 36500. To take none of a tier: SCHEDULE_DAILY=off"),
        (
            ["drill", "clutser"],
            {},
            11,
            "did you mean 'cluster'?\nTry: One of cluster, grey, ha, maintenance, matrix, sale,",
        ),
    ],
)
def test_an_error_names_what_to_set(typed: Typed, words: list[str], env: dict[str, str], code: int, says: str) -> None:
    done = typed(*words, env=env)
    assert done.returncode == code, done.stderr
    assert says in done.stderr


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            b"-NOAUTH Authentication required.\r\n",
            "Try: Set REDIS_PASSWORD (or REDIS_PASSWORD_FILE), and REDIS_USERNAME",
        ),
        (b"", "is it no Valkey or Redis port at all?"),
    ],
)
def test_a_server_that_refuses_or_is_another_one_says_what_to_set(typed: Typed, answer: bytes, says: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        done = typed("backup", env={"REDIS_NODES": f"127.0.0.1:{server.getsockname()[1]}"})
    assert done.returncode == 10, done.stderr
    assert says in done.stderr
