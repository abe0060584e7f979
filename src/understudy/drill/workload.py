"""A client under test in a process of its own: nothing that we measure with shares its interpreter.

The plan comes on standard input (never in the arguments: it holds the password), then words: `go ZERO FROM`
(monotonic nanoseconds: from when times are told, when operations begin), `wake` (the idle connection goes to work),
`stop`. Answers are lines of JSON. The process ends itself when its standard input closes.
"""

from __future__ import annotations

import contextlib
import gc
import gzip
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, cast

import orjson

from understudy import errors
from understudy.drill.client import Preset
from understudy.drill.clients import connect_with
from understudy.drill.generator import Generator, Load
from understudy.drill.history import operation_line
from understudy.drill.operation import Part
from understudy.valkey.target import Target

SIDE_RATES = {Part.IDLE: 20.0, Part.FRESH: 3.0}  # operations/s, at most
_CONNECTS_WITHIN_S = 30.0
ENDS_WITHIN_S = 12.0  # a client may be in the middle of a call that takes its time
_WRITE_EVERY_S = 0.2


@dataclass(frozen=True)
class Plan:
    """What one process does. `shard_of` has the shard of every slot, as bytes. Rates are operations/s."""

    target: Target
    preset: Preset
    rate: float
    tag: str
    shard_of: bytes
    file: Path
    seed: int
    mix: Mapping[str, float]
    keys: int = 0
    parts: tuple[Part, ...] = tuple(Part)

    def as_data(self) -> dict[str, Any]:
        """Return plain data, password included: for the pipe to the process."""
        return {
            **vars(self), "target": self.target.as_data(), "preset": self.preset.as_data(),
            "shard_of": self.shard_of.hex(), "file": str(self.file), "mix": dict(self.mix),
        }  # fmt: skip

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Plan:
        """Read what `as_data` wrote."""
        return cls(
            **{
                **data, "target": Target.from_data(data["target"]), "preset": Preset(**data["preset"]),
                "parts": tuple(map(Part, data["parts"])), "shard_of": bytes.fromhex(data["shard_of"]),
                "file": Path(data["file"]),
            }
        )  # fmt: skip


class Workload:
    """Our end of such a process. `said` has, when it has ended, what the last error of each class said."""

    def __init__(self, plan: Plan, advance: Callable[[int], None]) -> None:
        self.plan = plan
        self.said: dict[str, str] = {}
        self._advance = advance
        self._ready = threading.Event()
        self._ended = threading.Event()
        self._error: errors.UnderstudyError | None = None
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "understudy.drill.workload"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints,
            start_new_session=True,  # Ctrl-C is for us to handle
        )  # fmt: skip
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._tell(orjson.dumps(plan.as_data()))

    def await_ready(self) -> None:
        """Wait until the client is connected.

        Raises:
            UnderstudyError: it cannot connect, or knows no such setting.
        """
        if not self._ready.wait(_CONNECTS_WITHIN_S) or self._error:
            raise self._error or errors.UnreachableError(
                f"connecting the client {self.plan.preset.name!r}", f"not within {_CONNECTS_WITHIN_S:.0f} s"
            )

    def go(self, zero_ns: int, from_ns: int | None = None) -> None:
        """Begin at `from_ns` (monotonic), or at `zero_ns`, from which all times are told."""
        self._tell(b"go %d %d" % (zero_ns, zero_ns if from_ns is None else from_ns))

    def wake(self) -> None:
        """Set the idle connection to work."""
        self._tell(b"wake")

    def stop(self) -> None:
        """Have it begin nothing more."""
        self._tell(b"stop")

    def finish(self) -> Path:
        """Wait until all that was begun has ended, or long enough; return the file of operations.

        Raises:
            UnderstudyError: the process died.
        """
        if not self._ended.wait(ENDS_WITHIN_S + 10) or self._error:
            raise self._error or errors.UnderstudyError("ending a workload", "it did not end")
        return self.plan.file

    def close(self) -> None:
        """End the process in every case."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):  # what we still had to say is of no interest any more
                cast(Any, pipe).close()
        self._complaints.close()

    def _tell(self, line: bytes) -> None:
        try:
            self._process.stdin.write(line + b"\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]
        except BrokenPipeError:
            pass  # it died; `await_ready` and `finish` say so

    def _listen(self) -> None:
        ended = False
        for line in cast(Any, self._process.stdout):
            message = orjson.loads(line)
            if "advance" in message:
                self._advance(message["advance"])
            elif "ready" in message:
                self._ready.set()
            elif "ended" in message:
                ended = True
                self.said = message["said"]
            elif error := message.get("error"):
                kind: type[errors.UnderstudyError] = getattr(errors, error["error"], errors.UnderstudyError)
                self._error = kind(error["doing"], error["why"], error["try"], error["items"])
        if not ended and self._error is None:
            self._complaints.seek(0)
            tail = self._complaints.read()[-2000:].decode(errors="replace").strip()
            self._error = errors.UnderstudyError("running a client under test", f"its process died: {tail}")
        self._ready.set()
        self._ended.set()


_answers: BinaryIO


def _say(**message: Any) -> None:
    _answers.write(orjson.dumps(message) + b"\n")
    _answers.flush()


def _main() -> None:
    """Be the process."""
    global _answers  # noqa: PLW0603 - the one stream of the process
    _answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library may print; our answers must stay alone
    os.umask(0o077)
    sys.setswitchinterval(0.0005)  # many threads that each do little: none may keep the others waiting
    lines = sys.stdin.buffer
    plan = Plan.from_data(orjson.loads(lines.readline()))
    words: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen_to, args=(lines, words), daemon=True).start()
    try:
        _run(plan, iter(words.get, None))
    except errors.UnderstudyError as error:
        _say(error=error.as_data())
    except Exception as error:  # noqa: BLE001 - the library's own, while connecting
        doing = f"connecting the client {plan.preset.name!r} to {plan.target}"
        _say(error=errors.UnreachableError(doing, f"{type(error).__name__}: {error}").as_data())
    os._exit(0)  # calls that are stuck would keep the interpreter


def _listen_to(lines: BinaryIO, words: SimpleQueue[bytes]) -> None:
    """Pass on what is said; end with whoever says it, also in the middle of a connect that takes its time."""
    for line in lines:
        words.put(line)
    os._exit(1)


def _run(plan: Plan, words: Iterator[bytes]) -> None:
    library = connect_with(plan.preset.library)
    lives: dict[Part, Generator] = {}
    for part in plan.parts:
        rate = min(plan.rate, SIDE_RATES.get(part, plan.rate))
        load = Load(plan.preset.name, part, rate, plan.tag, plan.shard_of, keys=plan.keys, **plan.mix)
        lives[part] = Generator(load, lambda: library(plan.target, plan.preset), plan.seed)
        lives[part].open()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)  # a long pause would be taken for the servers'
    _say(ready=True)
    over = threading.Event()
    writer = threading.Thread(target=_write_out, args=(list(lives.values()), plan.file, over))
    zero_ns = 0
    for word in words:
        match word.split():
            case [b"go", zero, begin]:
                zero_ns = int(zero)
                for part, life in lives.items():
                    if part is Part.IDLE:
                        life.warm_up(zero_ns)
                    else:
                        life.begin(zero_ns, int(begin))
                writer.start()
            case [b"wake"] if Part.IDLE in lives:
                lives[Part.IDLE].begin(zero_ns, time.monotonic_ns())
            case [b"stop"]:
                break
    for life in lives.values():
        life.stop()
    give_up_at = time.monotonic() + ENDS_WITHIN_S
    while any(life.busy for life in lives.values()) and time.monotonic() < give_up_at:
        time.sleep(0.02)
    for life in lives.values():
        life.give_up()
    over.set()
    writer.join()
    _say(ended=True, said={error: text for life in lives.values() for error, text in life.said.items()})


def _write_out(lives: Sequence[Generator], path: Path, over: threading.Event) -> None:
    """Write what has ended, now and then, until it is over and all is written."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        last = False
        while not last:
            last = over.wait(_WRITE_EVERY_S)
            lines = [operation_line(life.done.popleft()) for life in lives for _ in range(len(life.done))]
            file.writelines(lines)
            _say(advance=len(lines))


if __name__ == "__main__":
    _main()
