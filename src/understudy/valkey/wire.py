"""One connection that moves many commands fast: bytes out, replies in, nothing retried.

redis-py spends several microseconds of Python a command; a backup moves millions. This is its bulk counterpart
over the same parser (hiredis): RESP2, raw bytes, explicit timeouts. Everything else uses `connect.py`.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import hiredis

from understudy.errors import NotAuthorisedError, ServerSaidError, UnderstudyError, UnreachableError, UsageError
from understudy.valkey.target import Address, Target

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 15.0  # between two reads; a stopped (not dead) server is noticed after this long
_READ_BYTES = 1 << 18

Reply = Any  # bytes, int, None, list of replies, or hiredis.ReplyError as a value
Command = Sequence[bytes | str | int]
ReplyError = hiredis.ReplyError
GREETING_HINT = "Does this port want TLS (rediss://, REDIS_TLS=true), or is it no Valkey or Redis port at all?"
LOGIN_HINT = (
    "Set REDIS_PASSWORD (or REDIS_PASSWORD_FILE), and REDIS_USERNAME where the user is not `default`; then check the"
    " user's ACL rules."
)
_NOT_AUTHORISED = ("NOAUTH", "WRONGPASS", "NOPERM", "ERR invalid password", "ERR AUTH")


def pack(command: Command) -> bytes:
    """Return a command as RESP bytes."""
    packed: bytes = hiredis.pack_command(tuple(command))  # type: ignore[arg-type]  # its stub allows one word
    return packed


def error_for(address: Address, command: Command, reply: Exception) -> UnderstudyError:
    """Return the error of ours for an error reply; arguments beyond the command's name are not repeated."""
    doing = f"running {command[0]!s} on {address}"
    if str(reply).startswith(_NOT_AUTHORISED):
        return NotAuthorisedError(doing, str(reply), LOGIN_HINT)
    return ServerSaidError(doing, str(reply), "Look the error up in the server's log.")


class Wire:
    """A connected, authenticated socket to one server, with the target's database selected."""

    def __init__(self, address: Address, target: Target, read_timeout_s: float = READ_TIMEOUT_S) -> None:
        self.address = address
        self.broken = False  # once a read or a write has failed, nobody knows which reply is whose
        self._heard = False  # a server that never answered may be none of ours
        self._reader = hiredis.Reader()
        try:
            self._socket = self._open(target.tls)
        except (OSError, ssl.SSLError) as error:
            raise UnreachableError(f"connecting to {address}", reason(error), hint_for(error, target)) from error
        self._socket.settimeout(read_timeout_s)
        try:
            self._greet(target)
        except UnreachableError as error:
            self.close()
            error.hint = error.hint or GREETING_HINT
            raise
        except BaseException:
            self.close()
            raise

    def _open(self, tls: Any) -> socket.socket:
        plain = socket.create_connection((self.address.host, self.address.port), CONNECT_TIMEOUT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if tls is None:
            return plain
        try:
            return tls.context().wrap_socket(plain, server_hostname=self.address.host)  # type: ignore[no-any-return]
        except BaseException:
            plain.close()
            raise

    def _greet(self, target: Target) -> None:
        if target.password is not None or target.username:
            user = [target.username] if target.username else []
            self.call("AUTH", *user, target.password or "")
        if target.import_source:
            self.call("CLIENT", "IMPORT-SOURCE", "ON")
        if target.db:
            try:
                self.call("SELECT", target.db)
            except ServerSaidError as error:
                raise UsageError(
                    f"selecting database {target.db} of {self.address}", error.why,
                    "A cluster has database 0 only, unless cluster-databases is set.",
                ) from error  # fmt: skip

    def send(self, packed: bytes) -> None:
        """Send packed commands.

        Raises:
            UnreachableError: the connection broke; what the server did with the bytes is not known.
        """
        try:
            self._socket.sendall(packed)
        except OSError as error:
            self.broken = True
            raise UnreachableError(f"sending to {self.address}", reason(error)) from error

    def read(self) -> Reply:
        """Return the next reply; an error reply is returned, not raised.

        Raises:
            UnreachableError: the connection broke or stayed silent for the read timeout.
        """
        reply = self._reader.gets()
        while reply is False:
            self._receive()
            reply = self._reader.gets()
        return reply

    def read_into(self, replies: list[Reply], count: int) -> None:
        """Append so many replies to a list; where the connection breaks, those that came before it are there."""
        next_reply = self._reader.gets
        end = len(replies) + count
        while len(replies) < end:
            reply = next_reply()
            if reply is False:
                self._receive()
            else:
                replies.append(reply)

    def _receive(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
            if not data:
                raise ConnectionError("the server closed the connection")
            self._reader.feed(data)
        except (OSError, hiredis.ProtocolError) as error:
            self.broken = True
            hint = "" if self._heard or isinstance(error, TimeoutError) else GREETING_HINT
            raise UnreachableError(f"reading from {self.address}", reason(error), hint) from error
        self._heard = True

    def pipeline(self, commands: Iterable[Command]) -> list[Reply]:
        """Send all commands at once and return one reply each, error replies included as values."""
        packed = [pack(command) for command in commands]
        self.send(b"".join(packed))
        replies: list[Reply] = []
        self.read_into(replies, len(packed))
        return replies

    def call(self, *command: bytes | str | int) -> Reply:
        """Run one command and return its reply.

        Raises:
            NotAuthorisedError: the server refused who we are.
            ServerSaidError: any other error reply.
        """
        self.send(pack(command))
        reply = self.read()
        if isinstance(reply, ReplyError):
            raise error_for(self.address, command, reply)
        return reply

    def elements(self, *command: bytes | str | int, cursor: bool = False) -> Iterator[Reply]:
        """Run a command that answers with an array, and yield its elements as they arrive; only one is held.

        With `cursor` the answer is that of a SCAN: the cursor is yielded first, then the elements. Nothing else may
        be asked before the last element was taken.

        Raises:
            NotAuthorisedError, ServerSaidError: the server answered with an error.
            UnreachableError: the connection broke.
        """
        self.send(pack(command))
        heads = 4 if cursor else 1  # "*2", "$1", the cursor and "*<count>"; or only the last of them
        data = self._raw()
        while data.count(b"\r\n") < heads and not data.startswith((b"-", b"*-1\r\n")):
            data += self._raw()
        if data.startswith(b"-"):
            self._reader.feed(data)
            raise error_for(self.address, command, self.read())
        *lines, rest = data.split(b"\r\n", heads)
        self._reader.feed(rest)
        left = max(int(lines[-1][1:]), 0)
        try:
            if cursor:
                yield lines[2]
            while left:
                element = self.read()
                left -= 1
                yield element
        finally:
            with contextlib.suppress(UnreachableError):
                while left and not self.broken:  # given up before the end: what is on its way must not answer others
                    left -= 1
                    self.read()

    def _raw(self) -> bytes:
        try:
            data = self._socket.recv(_READ_BYTES)
            if not data:
                raise ConnectionError("the server closed the connection")
        except OSError as error:
            self.broken = True
            raise UnreachableError(f"reading from {self.address}", reason(error)) from error
        return data

    def close(self) -> None:
        """Close the socket; harmless to repeat."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def reason(error: OSError | hiredis.ProtocolError) -> str:
    """Return in one phrase why a connection failed."""
    if isinstance(error, hiredis.ProtocolError):
        return f"that is no RESP ({error}); is this a Valkey or Redis port?"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    if isinstance(error, socket.gaierror):
        return "the name is not known"
    return error.strerror or str(error)


def hint_for(error: OSError, target: Target) -> str:
    """Return what to try when a server could not be connected to."""
    if isinstance(error, ssl.SSLError):
        return "Name the CA with REDIS_TLS_CA; or is this a port without TLS?"
    if isinstance(error, ConnectionResetError) and target.tls is None:
        return "Does this port want TLS? Then use rediss:// or REDIS_TLS=true."
    return "Is the server up, and is the address right? `understudy status` lists the labs of this machine."
