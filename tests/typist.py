"""Types commands quickly, on Linux: one process imports the program, and a fork of it runs each command.

A fork differs from a fresh `python -m understudy` in one thing: it has imported already. It has the environment, the
directory, the streams and the end of a process of its own. Where the environment speaks to Python itself, or
`TYPED=spawned` says so, commands are typed into fresh processes. A file that `TYPED_FIRST` names is run before the
command, in its process; PYTHONPATH is then for the processes that the command starts.

    python typist.py    (serves the socket that is its standard input)
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_FOR_PYTHON = ("PYTHON", "LC_", "LANG", "COVERAGE")
_IMPORTED = ("backup", "operations", "lab", "valkey", "drill", "demo", "waitingroom", "probe")
_ALSO = ("apprise", "boto3", "croniter", "httpx", "jinja2", "obstore.store", "psycopg", "pyrage", "rich.progress")
_TOLD = 1 << 20


class Typist:
    """The process that has imported the program, seen from the tests."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _TOLD)
        self._started_in = _for_python(os.environ)
        self._one_at_a_time = threading.Lock()
        with theirs:
            self._process = subprocess.Popen([sys.executable, __file__], stdin=theirs.fileno())

    def close(self) -> None:
        """End the process."""
        self._ours.close()
        self._process.wait(10)

    def can(self, env: Mapping[str, str]) -> bool:
        """Tell whether a fork would be the same as a fresh process in this environment."""
        found = _for_python(env)
        if "TYPED_FIRST" in env:
            found.pop("PYTHONPATH", None)
        return found == self._started_in

    def run(self, words: Sequence[str], env: Mapping[str, str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Run a command as `subprocess.run` would.

        Raises:
            subprocess.TimeoutExpired: When it does not end in time; it is killed.
        """
        told, tells = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        out_fd, out = os.pipe()
        err_fd, err = os.pipe()
        message = json.dumps({"words": list(words), "env": dict(env), "cwd": str(Path.cwd())}).encode()
        try:
            with self._one_at_a_time:
                socket.send_fds(self._ours, [message], [tells.fileno(), out, err])
        finally:
            tells.close()
            os.close(out)
            os.close(err)
        said = ["", ""]
        with told, os.fdopen(out_fd, encoding="utf-8") as stdout, os.fdopen(err_fd, encoding="utf-8") as stderr:
            readers = [
                threading.Thread(target=_read, args=(stream, said, number), daemon=True)
                for number, stream in enumerate((stdout, stderr))
            ]
            for reader in readers:
                reader.start()
            end = time.monotonic() + timeout_s
            pid = int(told.recv(100))
            try:
                for reader in readers:
                    reader.join(max(0, end - time.monotonic()))
                told.settimeout(max(0.001, end - time.monotonic()))
                code = int(told.recv(100))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                for reader in readers:
                    reader.join(5)
                raise subprocess.TimeoutExpired(list(words), timeout_s, said[0].encode(), said[1].encode()) from None
        return subprocess.CompletedProcess(["understudy", *words], code, *said)


def typist() -> Typist | None:
    """Start one where forks are sound and wanted."""
    return Typist() if sys.platform == "linux" and os.environ.get("TYPED") != "spawned" else None


def _for_python(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_FOR_PYTHON)}


def _read(stream: IO[str], said: list[str], number: int) -> None:
    said[number] = stream.read()


def _import_everything() -> None:
    import importlib
    import pkgutil

    names = ["understudy.cli.main", *_ALSO]
    for name in _IMPORTED:
        package = importlib.import_module(f"understudy.{name}")
        found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        names += [module.name for module in found if not module.name.endswith("__main__")]
    for name in names:
        with contextlib.suppress(Exception):  # the command that needs it tells
            importlib.import_module(name)


def _serve(asked: socket.socket) -> None:
    """Fork for each message; return in the process that is to be the command."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which then closes the socket
    while True:
        message, fds, _, _ = socket.recv_fds(asked, _TOLD, 3)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not message:
            os._exit(0)
        if os.fork() == 0:
            asked.close()
            _become(json.loads(message), fds)
            return
        for fd in fds:
            os.close(fd)


def _become(told: dict[str, object], fds: list[int]) -> None:
    """Fork once more: one to wait for the command's end and to tell it, and one, that returns, to be the command."""
    answer, out, err = fds
    if pid := os.fork():
        os.close(out)
        os.close(err)
        os.write(answer, str(pid).encode())
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(OSError):  # whoever asked has gone
            os.write(answer, str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.close(answer)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for fd, stream in ((nothing, 0), (out, 1), (err, 2)):
        os.dup2(fd, stream)
        os.close(fd)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for as long as it runs
    sys.stdout = open(1, "w", encoding=sys.stdout.encoding, closefd=False)  # noqa: SIM115
    sys.stderr = open(  # noqa: SIM115
        2, "w", encoding=sys.stderr.encoding, errors="backslashreplace", buffering=1, closefd=False
    )
    os.environ.clear()
    os.environ.update(told["env"])  # type: ignore[call-overload]
    time.tzset()
    os.chdir(str(told["cwd"]))
    sys.argv[1:] = told["words"]  # type: ignore[call-overload]


if __name__ == "__main__":
    sys.path.pop(0)  # the tests' own modules are none of the program's
    _import_everything()
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=os.dup(0)))
    from understudy.cli.main import main

    if first := os.environ.pop("TYPED_FIRST", None):
        exec(Path(first).read_text(), {})
    main()
