"""The client under test, which lives as long as the probe, and fresh ones beside it as the control."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from enum import StrEnum

import redis
from redis.credentials import CredentialProvider
from redis.exceptions import AuthenticationError, NoPermissionError, RedisClusterException, ResponseError

from understudy.errors import NotAuthorisedError, ServerSaidError, UnderstudyError, UnreachableError, UsageError
from understudy.valkey.connect import RETRYABLE, Client, connect, connect_with_defaults
from understudy.valkey.discovery import ACL_HINT, NO_CLUSTER_HINT, detect_mode, no_cluster
from understudy.valkey.entra import signed_in
from understudy.valkey.target import Mode, Target
from understudy.valkey.wire import LOGIN_HINT

CLIENT_ERRORS = (redis.RedisError, RedisClusterException, OSError, UnderstudyError)
HINT = "Is the server up, and is the address right? /redis/connection-mode says how it is reached."


class ClientKind(StrEnum):
    """Whose settings the clients have: those of `valkey/connect.py`, or redis-py's own defaults."""

    RECOMMENDED = "recommended"
    DEFAULTS = "defaults"


class Connection:
    """How the probe reaches the server. Nothing is sent before something is asked, so that it can be dead at first."""

    def __init__(self, target: Target, kind: ClientKind, credentials: CredentialProvider | None = None) -> None:
        self.kind = kind
        self._target = target
        self._credentials = credentials
        self._lock = threading.Lock()
        self._client: Client | None = None

    @property
    def mode(self) -> Mode:
        """Return the connection mode; `auto` until a server has answered."""
        return self._target.mode

    @property
    def target(self) -> Target:
        """Return the target, as far as it is known."""
        return self._target

    def reached(self) -> Target:
        """Return the target with its mode found and credentials of this moment, for connections made by hand.

        Raises:
            UnderstudyError: no server answered, or none tells what it is.
        """
        now = signed_in(self._target, self._credentials)
        if now.mode is Mode.AUTO:
            now = now.with_mode(detect_mode(now))
            self._target = self._target.with_mode(now.mode)
        return now

    def long_lived(self) -> Client:
        """Return the client under test; it is made once, when a server first answers, and never again.

        Raises:
            one of CLIENT_ERRORS: no server answered yet.
        """
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Client]:
        """Give a new client of the same kind, gone when the block ends."""
        client = self._connect()
        try:
            yield client
        finally:
            with contextlib.suppress(*CLIENT_ERRORS):
                client.close()

    def explained(self, doing: str, error: Exception) -> UnderstudyError:
        """Return the error of ours for one of a client's; passwords never stand in it."""
        if isinstance(error, UnderstudyError):
            return error
        error = _said_to_cluster_client(error)
        why = self._without_secrets(str(error) or type(error).__name__).rstrip(".")
        if isinstance(error, NoPermissionError) and "'cluster" in why:
            return NotAuthorisedError(doing, why, ACL_HINT)
        if isinstance(error, AuthenticationError | NoPermissionError):
            return NotAuthorisedError(doing, why, LOGIN_HINT)
        if no_cluster(why):
            return UsageError(doing, why, NO_CLUSTER_HINT)
        if "NOPROTO" in why:
            return ServerSaidError(doing, why, "It speaks RESP2 only: --client recommended, or protocol=2 in redis-py.")
        if isinstance(error, ResponseError) and not isinstance(error, RETRYABLE):
            return ServerSaidError(doing, why, "Look the error up in the server's log.")
        return UnreachableError(doing, why, HINT)

    def close(self) -> None:
        """Let go of the client under test; one that is just being made is not waited for."""
        client = self._client
        if client is not None:
            with contextlib.suppress(*CLIENT_ERRORS):
                client.close()

    def _connect(self) -> Client:
        target = self._target if self._target.mode is not Mode.AUTO else self.reached()
        if self.kind is ClientKind.DEFAULTS:
            return connect_with_defaults(target, decode_responses=True, credentials=self._credentials)
        return connect(target, decode_responses=True, credentials=self._credentials)

    def _without_secrets(self, text: str) -> str:
        for secret in filter(None, (self._target.password, self._target.sentinel_password)):
            text = text.replace(secret, "***")
        return text


def _said_to_cluster_client(error: Exception) -> Exception:
    """Return what a server answered to a client that finds no cluster: redis-py calls each refusal "not enabled"."""
    cause: BaseException | None = error
    while isinstance(cause, RedisClusterException):
        cause = cause.__cause__ or cause.__context__
    return cause if isinstance(cause, ResponseError | AuthenticationError) else error
