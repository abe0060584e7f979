"""What the installed entries start, read out of them: is it there, and can it be run?"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from understudy.errors import UnderstudyError
from understudy.operations import env_file
from understudy.operations.schedule import key_of, missing_at_night
from understudy.operations.schedules import every
from understudy.settings import Settings

_SET = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)
_CRON = re.compile(r"^\S+ \S+ \S+ \S+ \S+ (umask .*)$", re.MULTILINE)
_UNIT = re.compile(r'^ExecStart=/bin/sh -c "(.*)"$', re.MULTILINE)


def trouble_of_entries(settings: Settings) -> tuple[int, str | None]:
    """Return how many entries there are for these settings, and the first reason why one cannot do its work."""
    commands = _commands(settings)
    return len(commands), next(filter(None, map(trouble, commands)), None)


def lacking(settings: Settings, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the secrets that stand in this environment, and that the entries will not have."""
    given: set[str] = set()
    commands = _commands(settings)
    for command in commands:
        words = shlex.split(command)
        if "--env-file" in words[:-1]:
            given |= env_file.read(Path(words[words.index("--env-file") + 1])).keys()
    return missing_at_night(settings, environ, given) if commands else ()


def _commands(settings: Settings) -> list[str]:
    key = key_of(settings)
    commands: list[str] = []
    for scheduler in every():
        try:
            text = scheduler.remove(key, dry_run=True).text
        except UnderstudyError:
            continue  # what cannot be read is told by the question for the schedule
        commands += [line.replace("\\%", "%") for line in _CRON.findall(text)]
        for path in text.splitlines():
            if path.startswith("/") and path.endswith(".service") and Path(path).is_file():
                commands += [_unquoted(line) for line in _UNIT.findall(Path(path).read_text(errors="replace"))]
    return commands


def trouble(command: str) -> str | None:
    """Return why an entry's command cannot run: its directory, its program, or a file that it reads."""
    try:
        words = shlex.split(command)
        folder = words[words.index("cd") + 1]
        rest = words[words.index("&&") + 1 :]
    except (ValueError, IndexError):
        return "an entry cannot be read: somebody changed it"
    given = dict(word.split("=", 1) for word in rest if _SET.fullmatch(word))
    program = next((word for word in rest if not _SET.fullmatch(word)), "")
    if not Path(folder).is_dir():
        return f"{folder}, in which runs start, is not there"
    if not Path(program).is_file():
        return f"{program or 'the program of an entry'} is not there"
    if not os.access(program, os.X_OK):
        return f"{program} may not be executed"
    files = [given["UNDERSTUDY_CONFIG"]] if "UNDERSTUDY_CONFIG" in given else []
    if "--env-file" in rest[:-1]:
        files.append(rest[rest.index("--env-file") + 1])
        if Path(files[-1]).exists() and Path(files[-1]).stat().st_mode & 0o077:
            return f"{files[-1]} holds secrets, and other users may read it: chmod 600"
    return next((f"{file}, which runs read, is not there" for file in files if not os.access(file, os.R_OK)), None)


def _unquoted(text: str) -> str:
    """Undo what a unit file needs."""
    return re.sub(r"\\(.)", r"\1", text.replace("%%", "%").replace("$$", "$"))
