"""Who is told in tests: an HTTP and an SMTP server on loopback that keep what they get, and one that never answers."""

from __future__ import annotations

import email
import email.policy
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    """Where it listens, what came (path and body, or mails), and what it answers."""

    port: int = 0
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    mails: list[EmailMessage] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@contextmanager
def http_receiver() -> Iterator[Receiver]:
    """Take any POST."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            receiver.requests.append((self.path, body))
            self.send_response(receiver.status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.port = server.server_address[1]
    with _serving(server):
        yield receiver


class _Smtp(socketserver.StreamRequestHandler):
    take: Callable[[bytes], None]

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            verb = line.split(None, 1)[0].upper() if line.strip() else b""
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                text = b""
                while (row := self.rfile.readline()) not in {b".\r\n", b""}:
                    text += row[1:] if row.startswith(b"..") else row
                self.take(text)
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            if verb == b"QUIT":
                return


@contextmanager
def smtp_receiver() -> Iterator[Receiver]:
    """Take any mail, as the mail server of a machine does from its own programs."""
    receiver = Receiver()

    class Handler(_Smtp):
        def take(self, text: bytes) -> None:
            receiver.mails.append(email.message_from_bytes(text, _class=EmailMessage, policy=email.policy.default))

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.port = server.server_address[1]
    with _serving(server):
        yield receiver


@contextmanager
def silent_receiver() -> Iterator[Receiver]:
    """Accept, and never say a word."""
    listener = socket.create_server(("127.0.0.1", 0))
    try:
        yield Receiver(listener.getsockname()[1])
    finally:
        listener.close()
