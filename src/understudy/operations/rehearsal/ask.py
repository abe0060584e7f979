"""Put the user's checks to the servers of a rehearsal, and tell what each said."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import AliasChoices

from understudy.drill.findings import Word
from understudy.errors import UnderstudyError, UnreachableError
from understudy.operations.rehearsal.checks import Check
from understudy.operations.rehearsal.findings import CheckFindings
from understudy.operations.scratch import Scratch
from understudy.progress import Progress, stage
from understudy.settings import Settings

PREFIX = "REHEARSAL_"
_MOST_SHOWN = 300
_MOST_READ = 1 << 20
_OURS = ("redis_", "postgres_", "qdrant_", "backup_", "rehearse_", "use_cluster")
_ENDS_WITHIN_S = 5.0


def ask_all(checks: Sequence[Check], scratches: Mapping[str, Scratch], progress: Progress) -> tuple[CheckFindings, ...]:
    """Run every check, one after the other; a check whose component could not be restored is `unknown`."""
    with stage(progress, "Your checks", len(checks), "checks"):
        found = []
        for check in checks:
            began = time.monotonic()
            word, text = _ask(check, scratches)
            found.append(CheckFindings(check.name, word, text, time.monotonic() - began))
            progress.advance(1)
    return tuple(found)


def _ask(check: Check, scratches: Mapping[str, Scratch]) -> tuple[Word, str]:
    if check.component and check.component not in scratches:
        return "unknown", f"{check.component} was not restored"
    try:
        if check.kind == "run":
            answer: Any = _run(check, scratches.values())
        else:
            answer = scratches[str(check.component)].ask(check)
    except UnderstudyError as error:
        return ("unknown" if error.retryable else "failed"), _shown(error.why, scratches.values())
    text = f"{len(answer)} items" if isinstance(answer, list) else _shown(answer, scratches.values())
    return ("passed" if check.holds(answer) else "failed"), f"{text} ({check.wanted})" if check.wanted else text


class _EndedBadlyError(UnderstudyError):
    """A program of the user's ended with another code than 0."""


def _run(check: Check, scratches: Iterable[Scratch]) -> str:
    """Run a program of the user's, in a group of its own that ends with it; return what it printed."""
    try:
        process = subprocess.Popen(
            list(check.ask), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=environment(os.environ, scratches, check), start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise _EndedBadlyError("running it", f"{check.ask[0]}: {error.strerror or error}") from error
    try:
        output, _ = process.communicate(timeout=check.timeout_s)
    except subprocess.TimeoutExpired:
        raise UnreachableError("running it", f"no answer within {check.timeout_s:g} s") from None
    finally:
        _end(process)
    said = output[-_MOST_READ:].decode(errors="replace").strip()
    if process.returncode:
        code = process.returncode
        ended = f"ended with {code}" if code > 0 else f"ended by {signal.Signals(-code).name}"
        last = " / ".join(said.splitlines()[-3:])
        raise _EndedBadlyError("running it", f"{ended}: {last}" if last else ended)
    return said


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the program and of what it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:  # macOS says this of a group of zombies
        pass
    process.wait(_ENDS_WITHIN_S)
    if process.stdout:
        process.stdout.close()


def environment(base: Mapping[str, str], scratches: Iterable[Scratch], check: Check | None = None) -> dict[str, str]:
    """Return the environment of a program that shall find the scratch servers, and nothing of production's.

    `REHEARSAL_REDIS_URL` and so on name them, and so do the usual names (`DATABASE_URL`, `REDIS_URL`, …), so that a
    program that reads those works unchanged. Settings of the production stack are taken out, and libpq's `PG…`.
    """
    aliases = [info.validation_alias for field, info in Settings.model_fields.items() if field.startswith(_OURS)]
    hidden = {str(name) for one in aliases for name in (one.choices if isinstance(one, AliasChoices) else [one])}
    found = {name: value for name, value in base.items() if name not in hidden and not name.startswith("PG")}
    for scratch in scratches:
        for name, value in scratch.addresses(check.database if check else None).items():
            found[name] = value
            if name != "DATABASE_URL":
                found[f"{PREFIX}{name}"] = value
    return found


def _shown(answer: Any, scratches: Iterable[Scratch]) -> str:
    """Return an answer as one short line, without the servers' passwords."""
    text = str(answer)
    for scratch in scratches:
        for secret in scratch.secrets:
            text = text.replace(secret, "***")
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
