"""The user's crontab: a marked block for each installation; every other byte stays as it is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
from collections.abc import Iterator
from typing import ClassVar

from understudy.errors import NotAuthorisedError, NotFoundError, RefusedError, UnreachableError, UsageError
from understudy.lab import state
from understudy.operations.schedule import Change, Plan
from understudy.operations.tier import Tier

_LONGEST_COMMAND = 990  # bytes; Debian's cron takes 998, others a thousand
_NONE_YET = re.compile(rb"no crontab|no such file", re.IGNORECASE)
_NOT_ALLOWED = re.compile(r"not allowed|permission|authorized", re.IGNORECASE)
_ENTRY = re.compile(r"^(?P<time>\S+ \S+ \S+ \S+ \S+) .*? schedule run (?P<tier>\w+)", re.MULTILINE)
_TIMEOUT_S = 30
# A crontab whose last line has no end gets one before our block; the mark says so, and `remove` takes it away again.
_JOINED = b", after a line without end"


class Cron:
    """Entries of `crontab`, which the cron daemon runs in local time."""

    name: ClassVar[str] = "cron"
    program: ClassVar[str] = "crontab"

    def installed(self, key: str) -> dict[str, str]:
        """Return tier and time of each line in the block of this key."""
        block = _block(key).search(_read())
        text = block[0].decode(errors="replace") if block else ""
        return {match["tier"]: match["time"] for match in _ENTRY.finditer(text)}

    def install(self, plan: Plan, *, dry_run: bool = False) -> Change:
        """Write the block, in its old place if there is one; a crontab that has it already is not written at all."""
        with _alone():
            return self._install(plan, dry_run)

    def _install(self, plan: Plan, dry_run: bool) -> Change:
        before = _read()
        old = _whole(plan.key, before)
        if old:
            block = _text(plan, joined=bool(old["joined"]))
            after = before[: old.start()] + block + before[old.end() :]
        else:
            joined = bool(before) and not before.endswith(b"\n")
            block = _text(plan, joined=joined)
            after = before + (b"\n" if joined else b"") + block
        if after != before and not dry_run:
            _write(after, before)
        return Change(after != before, os.fsdecode(block))

    def remove(self, key: str, *, dry_run: bool = False) -> Change:
        """Cut the block out. A crontab in which nothing else was is removed."""
        with _alone():
            return self._remove(key, dry_run)

    def _remove(self, key: str, dry_run: bool) -> Change:
        before = _read()
        block = _whole(key, before)
        if not block:
            return Change(False, "")
        head, tail = before[: block.start()], before[block.end() :]
        if block["joined"] and not tail:
            head = head.removesuffix(b"\n")
        elif block["joined"] and (follower := _MARK.match(tail)) and not follower["joined"]:
            tail = tail[: follower.end("key")] + _BEGIN + _JOINED + tail[follower.end("begin") :]  # its turn to know
        if not dry_run:
            _write(head + tail, before)
        return Change(True, os.fsdecode(block[0]))


_BEGIN = b" begins"
_MARK = re.compile(
    rb"# understudy (?P<key>[0-9a-f]{8})(?P<begin> begins)(?P<joined>" + re.escape(_JOINED) + rb")?: .*\n"
)


def _block(key: str) -> re.Pattern[bytes]:
    name = key.encode()
    return re.compile(
        rb"^# understudy " + name + rb" begins(?P<joined>" + re.escape(_JOINED) + rb")?: .*\n(?:.*\n)*?"
        rb"# understudy " + name + rb" ends\n",
        re.MULTILINE,
    )  # fmt: skip


def _whole(key: str, text: bytes) -> re.Match[bytes] | None:
    """Return the block, of which there must be one or none. Raises `RefusedError` where somebody cut into it."""
    marks = len(re.findall(rb"^# understudy " + key.encode() + rb" (?:begins|ends)", text, re.MULTILINE))
    blocks = list(_block(key).finditer(text))
    if len(blocks) > 1 or marks != 2 * len(blocks):
        raise RefusedError(
            "changing the crontab", f"the lines that mark the block `understudy {key}` are not as they were written",
            "Remove what is left of it by hand: crontab -e.",
        )  # fmt: skip
    return blocks[0] if blocks else None


def _text(plan: Plan, *, joined: bool) -> bytes:
    mark = f"# understudy {plan.key}"
    lines = [
        f"{mark} begins{_JOINED.decode() if joined else ''}: {plan.title} (`understudy schedule remove` removes it)"
    ]
    lines += [f"{time.text} {escaped(plan.command(tier), tier)}" for tier, time in plan.times.items()]
    return os.fsencode("\n".join([*lines, f"{mark} ends", ""]))


def escaped(command: str, tier: Tier) -> str:
    r"""Return a command as it stands in a crontab, where `%` ends the line unless a backslash is before it.

    Cron reads `\\%` as a backslash and the end, so a backslash of the command's own must not touch a `%`: `shlex` puts
    both into quotes, and these are ended and begun again between the two.

    Raises:
        UsageError: it is longer than cron takes.
    """
    text = command.replace("\\%", "\\''%").replace("%", "\\%")
    if len(os.fsencode(text)) > _LONGEST_COMMAND:
        raise UsageError(
            f"writing the entry of the {tier} run", f"it has more than the {_LONGEST_COMMAND} bytes that cron takes",
            "Put settings of the environment into understudy.toml, or into a file for --env-file.",
        )  # fmt: skip
    return text


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keep others of us from writing between our reading and our writing; without a state directory nobody can."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            descriptor = os.open(state.home() / "crontab.lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(stack.enter_context(os.fdopen(descriptor)), fcntl.LOCK_EX)
        yield


def _read() -> bytes:
    """Return the crontab; nothing where there is none yet."""
    done = _crontab("-l")
    if done.returncode == 0:
        return done.stdout
    if _NONE_YET.search(done.stderr):
        return b""
    raise _refused("reading the crontab", done)


def _write(text: bytes, before: bytes) -> None:
    done = _crontab("-", data=text) if text else _crontab("-r")
    if done.returncode and text and not text.endswith(b"\n"):  # as it was before us; most programs do not take that
        text += b"\n"
        done = _crontab("-", data=text)
    if done.returncode:
        raise _refused("writing the crontab", done)
    if (now := _read()) != text:
        hint = "It is as it was." if now == before else "Look at it: crontab -l."
        raise UnreachableError("writing the crontab", "`crontab -l` does not show what was written", hint)


def _crontab(*words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["crontab", *words], input=data, capture_output=True, check=False, timeout=_TIMEOUT_S,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except FileNotFoundError:
        raise NotFoundError(
            "looking for crontab", "there is no such program on PATH", "Install cron, or use --systemd."
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnreachableError(f"running crontab {words[0]}", str(error), "Try it by hand.") from error


def _refused(doing: str, done: subprocess.CompletedProcess[bytes]) -> UnreachableError | NotAuthorisedError:
    said = " ".join(done.stderr.decode(errors="replace").split())[:300] or f"it ended with {done.returncode}"
    if _NOT_ALLOWED.search(said):
        return NotAuthorisedError(doing, said, "See /etc/cron.allow and /etc/cron.deny, or use --systemd.")
    return UnreachableError(doing, said, "Try it by hand: crontab -l.")
