"""Starts the program quickly, on Linux: one process has imported it, and forks for each command and each child of one.

A fork differs from a fresh `python -P -m understudy` in three things: it has imported already, what was typed is
looked up in options that were read already, and it ends without taking its memory apart where no thread is left. It
has the arguments (`ps` shows them too), the environment, the directory, the streams, the session and the end of a
process of its own. Where the environment speaks to Python itself, or `TYPED=spawned` says so, processes are fresh. A
file that `TYPED_FIRST` names is run before the command, in its process; PYTHONPATH is then for the processes that the
command starts.

    python typist.py    (serves the socket that is its standard input)
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import gc
import json
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

_FOR_PYTHON = ("PYTHON", "LC_", "LANG", "COVERAGE")
_IMPORTED = ("backup", "operations", "lab", "valkey", "drill", "demo", "sale", "waitingroom", "probe")
_ALSO = (
    "apprise", "boto3", "croniter", "httpx", "jinja2", "obstore.store", "psycopg", "pyrage", "rich.progress",
    "valkey.cluster",
)  # fmt: skip
_TOLD = 1 << 20
_LONGEST = 16_000  # bytes of arguments that `ps` can show of a fork
_BORN = b"+"  # before the id of a process, that its status is not taken for it
_PYTHON, _SCRIPT = sys.executable, str(Path(sys.executable).with_name("understudy"))
_one_at_a_time = threading.Lock()
_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]


class Typist:
    """The process that has imported the program, seen from the tests."""

    def __init__(self) -> None:
        ours, theirs = _sockets()
        with theirs:
            words = [sys.executable, __file__, "." * _LONGEST]
            self._process = subprocess.Popen(words, stdin=theirs.fileno())
        self.pid = self._process.pid
        self.asks = Asks(ours)
        ours.recv(10)  # it has imported: whoever measures how long a command takes does not measure that

    def close(self) -> None:
        """End the process."""
        self.asks.socket.close()
        self._process.wait(10)

    def can(self, env: Mapping[str, str]) -> bool:
        """Tell whether a fork would be the same as a fresh process in this environment."""
        return self.asks.can(env)

    def run(self, words: Sequence[str], env: Mapping[str, str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Run a command as `subprocess.run` would.

        Raises:
            subprocess.TimeoutExpired: When it does not end in time; it is killed.
        """
        with self.start(words, env) as process:
            try:
                said = process.communicate(timeout=timeout_s)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, *said)

    def start(self, words: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[str]:
        """Start a command as `subprocess.Popen` would, with pipes for what it writes."""
        return Popen(
            ["understudy", *words], env=dict(env), encoding="utf-8",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, asks=self.asks,
        )  # fmt: skip


class Asks:
    """An end of a socket at whose other end forks are made."""

    def __init__(self, asking: socket.socket) -> None:
        self.socket = asking
        self._alike = _alike()
        self._for_python = _for_python(os.environ)

    def can(self, env: Mapping[str, str]) -> bool:
        """Tell whether a fork would be the same as a fresh process, started from here with this environment."""
        found = _for_python(env)
        if "TYPED_FIRST" in env:
            found.pop("PYTHONPATH", None)
        return found == self._for_python and _alike() == self._alike

    def fork(self, message: Mapping[str, Any], streams: Sequence[int]) -> tuple[int, int]:
        """Ask for a process; return its id, and the descriptor from which its status is read when it has ended."""
        told, tells = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with told, tells:
            socket.send_fds(self.socket, [json.dumps(message).encode()], [tells.fileno(), *streams])
            tells.close()
            pid = told.recv(100)
            if not pid.startswith(_BORN):
                raise OSError(f"no fork became {' '.join(message['args'])}")
            return int(pid.removeprefix(_BORN)), told.detach()


class Popen(subprocess.Popen[Any]):
    """A `subprocess.Popen` whose process is a fork where it can be one: the program, or with `-P -m` a module of it."""

    _for_children: Callable[[], Asks] | None = None
    _told: int | None = None

    def __init__(self, *given: Any, asks: Asks | None = None, **named: Any) -> None:
        self._asks = asks
        super().__init__(*given, **named)

    @classmethod
    def stand_in(cls, asks: Callable[[], Asks]) -> None:
        """Be `subprocess.Popen` in this process from now on; `asks` is called when it is needed."""
        cls._for_children = asks
        subprocess.Popen = cls  # type: ignore[misc]

    def _execute_child(self, args: Any, *given: Any) -> None:
        if not (asked := self._as_asked(args, given)):
            super()._execute_child(args, *given)  # type: ignore[misc]
            return
        asks, message, streams = asked
        try:
            self.pid, self._told = asks.fork(message, streams)
            self._child_created = True
        finally:
            self._close_pipe_fds(*given[9:15])  # type: ignore[attr-defined]

    def _as_asked(self, args: Any, given: Sequence[Any]) -> tuple[Asks, dict[str, Any], list[int]] | None:
        executable, before, close_fds, pass_fds, cwd, env, _, _, shell, stdin, _, _, stdout, _, stderr = given[:15]
        _, gid, gids, uid, umask, session, group = given[15:]
        usual = (None, None, True, (), False, None, None, None, -1)
        if (executable, before, close_fds, tuple(pass_fds), shell, gid, gids, uid, group) != usual:
            return None
        if self._asks:
            asks, module, words = self._asks, "understudy", list(args[1:])
            args = [sys.executable, "-m", "understudy", *words]
        elif (by := type(self)._for_children) and (found := _module(args)):
            asks, (module, words) = by(), found
            if not asks.can(env or os.environ):
                return None
        else:
            return None
        if len("\0".join(args).encode(errors="surrogateescape")) > _LONGEST:
            return None
        streams = [theirs if theirs != -1 else ours for ours, theirs in enumerate((stdin, stdout, stderr))]
        message = {
            "module": module, "words": words, "args": list(args), "env": dict(env or os.environ),
            "cwd": os.fspath(cwd or Path.cwd()), "session": session, "umask": _umask() if umask == -1 else umask,
        }  # fmt: skip
        return asks, message, streams

    def _internal_poll(self, *given: Any, **named: Any) -> int | None:
        if self._told is None:
            return super()._internal_poll(*given, **named)  # type: ignore[misc, no-any-return]
        if self.returncode is None and self._waitpid_lock.acquire(False):  # type: ignore[attr-defined]
            try:
                pid, status = (0, 0) if self.returncode is not None else self._try_wait(os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode

    def _try_wait(self, flags: int) -> tuple[int, int]:
        if self._told is None:
            return super()._try_wait(flags)  # type: ignore[misc, no-any-return]
        if flags:
            ready = select.poll()
            ready.register(self._told, select.POLLIN)
            if not ready.poll(0):
                return 0, 0
        status = int(os.read(self._told, 100))
        os.close(self._told)
        return self.pid, status


def typist() -> Typist | None:
    """Return the one of this process, where forks are sound and wanted."""
    with _one_at_a_time:
        return _typist()


@functools.cache
def _typist() -> Typist | None:
    return Typist() if _wanted() else None


def close() -> None:
    """End the one of this process, if there is one."""
    if _typist.cache_info().currsize and (found := _typist()):
        found.close()


def answer_children() -> None:
    """Have forks also for what the program starts when tests call it in this process."""
    if _wanted():
        Popen.stand_in(lambda: cast(Typist, typist()).asks)


def _wanted() -> bool:
    return sys.platform == "linux" and hasattr(os, "pidfd_open") and os.environ.get("TYPED") != "spawned"


def _module(args: Any) -> tuple[str, list[str]] | None:
    match args:
        case [str(python), "-P", "-m", str(module), *words]:
            return (module, words) if python == _PYTHON and module.partition(".")[0] == "understudy" else None
        case [str(script), *words] if script == _SCRIPT:
            return "understudy", words
    return None


def _alike() -> list[Any]:
    """What a process inherits from the one that starts it, and a fork from another."""
    return [os.geteuid(), os.getpriority(os.PRIO_PROCESS, 0), *map(resource.getrlimit, _LIMITS)]


def _umask() -> int:
    return int(Path("/proc/self/status").read_text().partition("\nUmask:")[2].split()[0], 8)


def _for_python(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_FOR_PYTHON)}


def _sockets() -> tuple[socket.socket, socket.socket]:
    asking, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    asking.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _TOLD)
    return asking, asked


# From here on: the process that forks, and its forks.


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


def _read_options() -> None:
    """Have typer make the commands of what the program says of them, which takes longer than most of them run."""
    import typer.main

    from understudy.cli.main import app

    typer.main.get_command = functools.cache(typer.main.get_command)
    typer.main.get_command(app)


def _serve(asked: socket.socket) -> dict[str, Any]:
    """Fork for each message; return in the process that is to be what was asked for, with the message."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which then closes the socket
    asking, of_children = _sockets()
    for_children = Asks(asking)
    doors = {asked.fileno(): asked, of_children.fileno(): of_children}
    ends: dict[int, tuple[int, int]] = {}
    ready = select.poll()
    for fd in doors:
        ready.register(fd, select.POLLIN)
    while True:
        for fd, _ in ready.poll():
            if fd in ends:
                pid, tells = ends.pop(fd)
                ready.unregister(fd)
                os.close(fd)
                with contextlib.suppress(OSError):  # whoever asked has gone
                    os.write(tells, str(os.waitpid(pid, 0)[1]).encode())
                os.close(tells)
                continue
            message, fds, _, _ = socket.recv_fds(doors[fd], _TOLD, 4)
            if not message:
                os._exit(0)
            tells, *streams = fds
            if (pid := os.fork()) == 0:
                for door in doors.values():
                    door.close()
                for pidfd, (_, other) in ends.items():
                    os.close(pidfd)
                    os.close(other)
                told = dict(json.loads(message))
                _become(told, streams)
                Popen.stand_in(lambda: for_children)
                os.write(tells, _BORN + str(os.getpid()).encode())
                os.close(tells)
                return told
            for stream in streams:
                os.close(stream)
            pidfd = os.pidfd_open(pid)
            ends[pidfd] = pid, tells
            ready.register(pidfd, select.POLLIN)


def _become(told: Mapping[str, Any], streams: Sequence[int]) -> None:
    """Have what a fresh process of that command would have."""
    if told["session"]:
        os.setsid()
    os.umask(told["umask"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
    for fd in streams:
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
    sys.orig_argv[:] = told["args"]
    shown = "\0".join(told["args"]).encode(errors="surrogateescape")
    begin, end = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:47])
    ctypes.memmove(begin, shown.ljust(end - begin, b"\0"), end - begin)


def _run(told: Mapping[str, Any]) -> None:
    if told["module"] == "understudy":
        from understudy.cli.main import main

        sys.argv[0] = str(Path(sys.modules["understudy"].__file__ or "").with_name("__main__.py"))
        if first := os.environ.pop("TYPED_FIRST", None):
            exec(Path(first).read_text(), {})
        main()
    warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning)  # it is: that is what saves the time
    runpy.run_module(told["module"], run_name="__main__", alter_sys=True)


def _end(code: int) -> None:
    """End as an interpreter does, but leave the memory to the system; come back where there is more to it."""
    threading._shutdown()  # type: ignore[attr-defined]
    if threading.active_count() > 1:
        return  # such a thread may be in the interpreter's way when it ends: that is for the command to show
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _main() -> NoReturn:
    sys.path.pop(0)  # the tests' own modules are none of the program's
    _import_everything()
    _read_options()
    gc.collect()
    gc.freeze()
    asked = socket.socket(fileno=os.dup(0))
    asked.send(b"ready")
    told = _serve(asked)
    try:
        _run(told)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            _end(ended.code or 0)
        raise
    sys.exit(0)


if __name__ == "__main__":
    _main()
