"""The gateways of a sale: processes of `understudy waitingroom`, which can be killed and started again."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from understudy.errors import UnreachableError
from understudy.lab.layout import HOST
from understudy.valkey.target import Address

_READY_WITHIN_S = 60.0  # it says so at once where it died; a busy machine takes its time
_ENDS_WITHIN_S = 10.0


class Gateways:
    """A context manager: inside, all of them answer; after it, none is left."""

    def __init__(self, count: int, environment: Mapping[str, str], words: list[str], directory: Path) -> None:
        self.addresses = [Address(HOST, _free_port()) for _ in range(count)]
        self._environment = {**os.environ, **environment}
        self._words = words
        self._directory = directory
        self._logs: list[IO[bytes]] = []
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Gateways:
        try:
            self._processes = [self._started(number) for number in range(len(self.addresses))]
            for number in range(len(self.addresses)):
                self._await_ready(number)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(_ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes = []
        for log in self._logs:
            log.close()

    def kill(self, number: int) -> None:
        """End one at once, as `kill -9` does."""
        self._processes[number].kill()
        self._processes[number].wait()

    def start(self, number: int) -> None:
        """Start one again at its port, and wait until it answers."""
        self._processes[number] = self._started(number)
        self._await_ready(number)

    def log(self, number: int) -> str:
        """Return the end of what one wrote."""
        return (self._directory / f"gateway-{number + 1}.log").read_text(errors="replace")[-2000:]

    def _started(self, number: int) -> subprocess.Popen[bytes]:
        log = (self._directory / f"gateway-{number + 1}.log").open("ab")
        self._logs.append(log)
        port = self.addresses[number].port
        # -P: the current directory is somebody else's, and may have a jwt.py
        words = [sys.executable, "-P", "-m", "understudy", "waitingroom", "--host", HOST, "--port", str(port)]
        words += self._words
        return subprocess.Popen(words, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _await_ready(self, number: int) -> None:
        until_s = time.monotonic() + _READY_WITHIN_S
        url = f"http://{self.addresses[number]}/healthz"
        while True:
            try:
                with urllib.request.urlopen(url, timeout=1):
                    return
            except (urllib.error.URLError, OSError) as error:
                if self._processes[number].poll() is not None or time.monotonic() > until_s:
                    raise UnreachableError(
                        f"starting gateway {number + 1}", f"it does not answer ({error})", self.log(number)
                    ) from error
            time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
