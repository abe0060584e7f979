"""A small TCP relay of our own: in front of a node, to slow it or cut it off; or as an address that never changes.

It runs as a child process (`pump.py`), so that it keeps pace whatever we do, and ends with us, however we end.
"""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from understudy.drill import pump
from understudy.errors import RefusedError, UnderstudyError
from understudy.lab.layout import HOST
from understudy.valkey.target import Address
from understudy.valkey.wire import Command, pack

_ENDS_WITHIN_S = 5.0


class Relay:
    """Passes connections on to the first of `upstreams` that takes them; every connection begins with the next one.

    With `listening=False` it waits for `listen`, for a port that is not free yet. It listens on loopback unless another
    `host` is given. Not safe for threads.

    Raises:
        RefusedError: the port is taken.
    """

    def __init__(
        self, upstreams: Iterable[Address], port: int = 0, *, listening: bool = True, host: str = HOST
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", pump.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us; we tell it when to end
            text=True,
        )
        self.address = Address(host, port)
        try:
            self.set_upstreams(upstreams)
            if listening:
                self.listen()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Return the pid of its process."""
        return self._process.pid

    def listen(self) -> None:
        """Open the port; 0 becomes a free one, told by `address`."""
        host = self.address.host
        self.address = Address(host, int(self._tell(listen=[host, self.address.port])))

    def set_upstreams(self, upstreams: Iterable[Address]) -> None:
        """Pass new connections on to these from now; what is open stays open."""
        self._tell(upstreams=[[host, port] for host, port in upstreams])

    def delay(self, ms: float) -> None:
        """Make every answer late by so much; 0 ends that. What is on its way stays late and in order."""
        self._tell(delay_s=ms / 1000)

    def cut_servers(self, cut: bool) -> None:
        """Swallow, without a word, what replicas, sentinels and migrating primaries say and hear; clients pass."""
        self._tell(cut_servers=cut)

    def last_words(self, address: Address, password: str | None, commands: Sequence[Command]) -> None:
        """Have it run these commands there when we are gone without having closed it, after it has freed its port."""
        secret: list[Command] = [("AUTH", password)] if password is not None else []
        words = base64.b64encode(b"".join(map(pack, [*secret, *commands]))).decode()
        self._tell(last_words=[address.host, address.port, words])

    def close(self) -> None:
        """End it and every connection through it; harmless to repeat."""
        with contextlib.suppress(OSError):
            self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate(timeout=_ENDS_WITHIN_S)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tell(self, **command: Any) -> Any:
        assert self._process.stdin is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except (BrokenPipeError, ValueError):
            line = ""
        if not line:
            raise UnderstudyError(f"telling the relay on {self.address}", "its process is gone")
        answer = json.loads(line)
        if isinstance(answer, dict):
            raise RefusedError(f"starting a relay on {self.address}", answer["error"], "Name another port.")
        return answer
