"""Run tasks side by side, each in a process of its own.

A task is plain data that names a function and its arguments; it needs nothing else but a place to write, so that
another engine can run the same task on another machine. Here a worker gets its task on standard input (never in
its arguments: a task holds the password), and answers in lines of JSON. It ends itself when we are gone: its
standard input closes then.
"""

from __future__ import annotations

import gc
import importlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import IO, Any, cast

import orjson

from understudy import errors
from understudy.backup.set import FileEntry

Advance = Callable[[int], None]
TaskFunction = Callable[[Mapping[str, Any], Advance], dict[str, Any]]
_REPORT_EVERY_S = 0.2
MOST_JOBS = 1000  # more than any machine runs at once
_KEYS_FOR_ONE, _BYTES_FOR_ONE = 2_000, 4 << 20  # for less, starting another worker takes longer than it saves


def default_jobs(tasks: int) -> int:
    """Return how many workers to run: one a task, but not more than two a core."""
    return max(1, min(tasks, 2 * (os.cpu_count() or 1)))


def jobs_for(parts: Sequence[FileEntry]) -> int:
    """Return how many workers these parts are worth: at least one, and one a part at most."""
    keys, size = sum(entry.keys or 0 for entry in parts), sum(entry.size for entry in parts)
    return default_jobs(min(len(parts), max(-(-keys // _KEYS_FOR_ONE), size // _BYTES_FOR_ONE)))


def shares(parts: Sequence[FileEntry]) -> list[list[FileEntry]]:
    """Split parts into one run of neighbours for each worker, of about as many keys each; at least one, if empty."""
    jobs = jobs_for(parts)
    total = sum(entry.keys or 0 for entry in parts) or 1
    split: list[list[FileEntry]] = [[] for _ in range(jobs)]
    before = 0
    for entry in parts:
        split[min(before * jobs // total, jobs - 1)].append(entry)
        before += entry.keys or 0
    return split


def run_all(function: str, tasks: Sequence[Mapping[str, Any]], advance: Advance) -> list[dict[str, Any]]:
    """Run `function` ("package.module:name") over every task; return the results in order.

    `advance` is told, from several threads, what the tasks report, and called now and then in any case: what it
    raises ends the work. The first error ends the other workers.

    Raises:
        UnderstudyError: what a worker raised.
    """
    if not tasks:
        return []
    running: set[subprocess.Popen[bytes]] = set()
    stopped = threading.Event()

    def one(task: Mapping[str, Any]) -> dict[str, Any]:
        return _run(function, task, advance, running, stopped)

    with ThreadPoolExecutor(default_jobs(len(tasks))) as pool:
        futures = [pool.submit(one, task) for task in tasks]
        try:
            while wait(futures, _REPORT_EVERY_S, FIRST_EXCEPTION).not_done:
                if failed := next((future for future in futures if future.done() and future.exception()), None):
                    failed.result()
                advance(0)
            return [future.result() for future in futures]
        finally:
            stopped.set()
            for future in futures:
                future.cancel()
            for process in list(running):
                process.kill()


def _run(
    function: str,
    task: Mapping[str, Any],
    advance: Advance,
    running: set[subprocess.Popen[bytes]],
    stopped: threading.Event,
) -> dict[str, Any]:
    with tempfile.TemporaryFile() as complaints:
        # a session of its own: Ctrl-C is for us to handle, the worker follows when we are done or gone
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "understudy.backup.workers", function],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, start_new_session=True,
        )  # fmt: skip
        running.add(process)
        result: dict[str, Any] | None = None
        try:
            if stopped.is_set():
                process.kill()
            tell, answers = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
            tell.write(orjson.dumps(task) + b"\n")
            tell.flush()
            for line in answers:
                message = orjson.loads(line)
                if "advance" in message:
                    advance(message["advance"])
                else:
                    result = message
        except BrokenPipeError:
            pass  # it died before it read its task; its complaints say why
        finally:
            process.kill()
            process.communicate()
            running.discard(process)
        if result is None:
            complaints.seek(0)
            tail = complaints.read()[-2000:].decode(errors="replace").strip()
            if not tail:
                raise errors.IncompleteError(
                    "running a worker", "it was killed", "Was there too little memory? Then run it again with more."
                )
            raise errors.UnderstudyError("running a worker", f"it died without an answer: {tail}")
    if error := result.get("error"):
        kind: type[errors.UnderstudyError] = getattr(errors, error["error"], errors.UnderstudyError)
        raise kind(error["doing"], error["why"], error["try"], error["items"])
    return dict(result["result"])


def _main() -> None:
    """Be a worker."""
    module, _, name = sys.argv[1].partition(":")
    function: TaskFunction = getattr(importlib.import_module(module), name)
    task = orjson.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_die_with_parent, daemon=True).start()
    os.umask(0o077)
    gc.disable()  # millions of short-lived values without cycles, in a process that ends with its task
    out = sys.stdout.buffer
    last, waiting = time.monotonic(), 0

    def advance(amount: int) -> None:
        nonlocal last, waiting
        waiting += amount
        now = time.monotonic()
        if now - last >= _REPORT_EVERY_S:
            out.write(orjson.dumps({"advance": waiting}) + b"\n")
            out.flush()
            last, waiting = now, 0

    try:
        answer: dict[str, Any] = {"result": function(task, advance)}
    except errors.UnderstudyError as error:
        answer = {"error": error.as_data()}
    except OSError as error:
        answer = {"error": errors.out_of_room(error).as_data()}
    out.write(orjson.dumps({"advance": waiting}) + b"\n" + orjson.dumps(answer) + b"\n")
    out.flush()
    os._exit(0)  # nothing is left to tidy, and interpreter shutdown would wait for the watching thread's lock


def _die_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    _main()
