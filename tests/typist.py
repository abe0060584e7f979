"""Types commands quickly, on Linux: one process imports the program, and a fork of it runs each command.

A fork differs from a fresh `python -m understudy` in one thing: it has imported already. It has the environment, the
directory, the streams and the end of a process of its own. Where the environment speaks to Python itself, or
`TYPED=spawned` says so, commands are typed into fresh processes. A file that `TYPED_FIRST` names is run before the
command, in its process; PYTHONPATH is then for the processes that the command starts.

    python typist.py    (serves the socket that is its standard input)
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
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
from typing import IO, Any

_FOR_PYTHON = ("PYTHON", "LC_", "LANG", "COVERAGE")
_IMPORTED = ("backup", "operations", "lab", "valkey", "drill", "demo", "waitingroom", "probe")
_ALSO = ("apprise", "boto3", "croniter", "httpx", "jinja2", "obstore.store", "psycopg", "pyrage", "rich.progress")
_TOLD = 1 << 20
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2): orphans below us become our children


class Typist:
    """The process that has imported the program, seen from the tests."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _TOLD)
        self._started_in = _for_python(os.environ)
        self._one_at_a_time = threading.Lock()
        self._adopting = threading.Lock()
        with theirs:
            self._process = subprocess.Popen([sys.executable, __file__], stdin=theirs.fileno())
        self._ours.recv(10)  # it has imported: whoever measures how long a command takes does not measure that

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
        out_fd, out = os.pipe()
        err_fd, err = os.pipe()
        try:
            told = self._asked(words, env, out, err)
        finally:
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

    def start(self, words: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[str]:
        """Start a command as `subprocess.Popen` would, with pipes for what it writes."""
        return _Started(self, words, env)

    def child(self, words: Sequence[str], env: Mapping[str, str], out: int, err: int) -> int:
        """Start a command that is a child of this process and writes to `out` and `err`; return its id."""
        libc = ctypes.CDLL(None)
        with self._adopting:
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            try:
                with self._asked(words, env, out, err, parent=os.getpid()) as told:
                    return int(told.recv(100))
            finally:
                libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)

    def _asked(
        self, words: Sequence[str], env: Mapping[str, str], out: int, err: int, parent: int = 0
    ) -> socket.socket:
        """Ask for a command; return where it is told of. With a `parent`, it is told of when it is that one's child."""
        told, tells = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        message = {"words": list(words), "env": dict(env), "cwd": str(Path.cwd()), "parent": parent}
        with tells, self._one_at_a_time:
            socket.send_fds(self._ours, [json.dumps(message).encode()], [tells.fileno(), out, err])
        return told


class _Started(subprocess.Popen[str]):
    """A process in every respect, but that a fork of the typist is it."""

    def __init__(self, by: Typist, words: Sequence[str], env: Mapping[str, str]) -> None:
        self._by = by
        super().__init__(
            ["understudy", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(env)
        )

    def _execute_child(self, args: Sequence[str], *given: Any) -> None:
        env, out, err = given[5], given[12], given[14]
        try:
            self.pid = self._by.child(args[1:], env, out, err)
            self._child_created = True
        finally:
            os.close(out)
            os.close(err)


@functools.cache
def typist() -> Typist | None:
    """Return the one of this process, where forks are sound and wanted."""
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
            told = json.loads(message)
            _detach(told["parent"], fds)
            _become(told, *fds[1:])
            return
        for fd in fds:
            os.close(fd)


def _detach(parent: int, fds: list[int]) -> None:
    """Fork once more, and return in the new process: a child of `parent`, or one whose end we wait for and tell."""
    answer = fds[0]
    if pid := os.fork():
        if not parent:
            for fd in fds[1:]:
                os.close(fd)
            os.write(answer, str(pid).encode())
            _, status = os.waitpid(pid, 0)
            with contextlib.suppress(OSError):  # whoever asked has gone
                os.write(answer, str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    if parent:
        while os.getppid() != parent:
            time.sleep(0.001)
        os.write(answer, str(os.getpid()).encode())
    os.close(answer)


def _become(told: dict[str, Any], out: int, err: int) -> None:
    """Have what a fresh process of that command would have."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
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
    os.environ.update(told["env"])
    time.tzset()
    os.chdir(str(told["cwd"]))
    sys.argv[1:] = told["words"]


if __name__ == "__main__":
    sys.path.pop(0)  # the tests' own modules are none of the program's
    _import_everything()
    gc.collect()
    gc.freeze()
    asked = socket.socket(fileno=os.dup(0))
    asked.send(b"ready")
    _serve(asked)
    from understudy.cli.main import main

    if first := os.environ.pop("TYPED_FIRST", None):
        exec(Path(first).read_text(), {})
    main()
