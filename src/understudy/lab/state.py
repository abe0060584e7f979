"""The labs of this machine by name: a directory each, an atomic state file, a lock that dies with its holder."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from understudy.errors import IntegrityError, RefusedError, UsageError
from understudy.lab.layout import Options
from understudy.lab.server import LabNode

HOME_VARIABLE = "UNDERSTUDY_HOME"
_FILE = "lab.json"
_VERSION = 1
_LOCK_POLL_S = 0.05


@dataclass(frozen=True)
class Record:
    """What is known of a lab beyond the life of one command.

    `formed` is false from the first process until the lab was usable once: an `up` that was interrupted.
    """

    name: str
    options: Options
    nodes: tuple[LabNode, ...] = ()
    formed: bool = False

    @property
    def alive(self) -> bool:
        """Return whether any of its processes lives."""
        return any(node.alive for node in self.nodes)

    def with_nodes(self, nodes: tuple[LabNode, ...]) -> Record:
        """Return the record with these nodes."""
        return replace(self, nodes=nodes)


def home() -> Path:
    """Return the directory of all labs, made where it was missing, for this user only (0700)."""
    named = os.environ.get(HOME_VARIABLE)
    if named:
        path = Path(named).expanduser().absolute()
    else:
        base = os.environ.get("XDG_STATE_HOME")
        path = (Path(base) if base else Path.home() / ".local" / "state") / "understudy"
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def directory(name: str) -> Path:
    """Return a lab's directory, whether it is there or not.

    Raises:
        UsageError: the name cannot be a directory's.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise UsageError(
            f"looking for the lab {name!r}", "a name is letters, digits, dots, dashes; 64 at most", "Choose another."
        )
    return home() / "labs" / name


def names() -> list[str]:
    """Return the names of all labs that have a directory, running or not."""
    labs = home() / "labs"
    return sorted(entry.name for entry in labs.iterdir() if entry.is_dir()) if labs.is_dir() else []


def read(name: str) -> Record | None:
    """Return what is known of a lab; None where there is none or only its logs are left.

    Raises:
        IntegrityError: the state file is damaged.
    """
    path = directory(name) / _FILE
    try:
        data = json.loads(path.read_text())
        if data["version"] != _VERSION:
            raise ValueError(f"it has version {data['version']}, this program knows {_VERSION}")
        nodes = tuple(LabNode.from_data(node) for node in data["nodes"])
        return Record(data["name"], Options.from_data(data["options"]), nodes, data["formed"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"reading {path}", f"it is no state file of ours ({error})", f"understudy clean --force --name {name}"
        ) from error


def write(record: Record) -> None:
    """Write a lab's state so that a crash leaves the old one or the new one."""
    lab = directory(record.name)
    lab.mkdir(parents=True, exist_ok=True, mode=0o700)
    data: dict[str, Any] = {
        "version": _VERSION,
        "name": record.name,
        "formed": record.formed,
        "options": record.options.as_data(),
        "nodes": [node.as_data() for node in record.nodes],
    }
    temporary = lab / f"{_FILE}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(data, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(lab / _FILE)
    parent = os.open(lab, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def forget(name: str, *, keep_logs: bool) -> None:
    """Remove a lab's state and data; the state file goes last, so that an interruption can be repeated."""
    lab = directory(name)
    if not lab.is_dir():
        return
    for entry in lab.iterdir():
        if entry.name == _FILE or (keep_logs and entry.name == "logs"):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    (lab / _FILE).unlink(missing_ok=True)
    if not keep_logs:
        lab.rmdir()


@contextlib.contextmanager
def locked(name: str, within_s: float = 60.0) -> Iterator[None]:
    """Hold a lab's lock; the system lets go of it when we die. Lock files stay: removing one would free two holders.

    Raises:
        RefusedError: another command held it all the time.
    """
    directory(name)
    locks = home() / "locks"
    locks.mkdir(exist_ok=True, mode=0o700)
    descriptor = os.open(locks / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + within_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RefusedError(
                        f"waiting for the lab {name}",
                        f"another understudy command has been working on it for {within_s:g} s",
                        "Try again when it has ended.",
                    ) from None
                time.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)
