"""Where this program was installed from, and how it is typed here: for advice that works when somebody types it."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from understudy.errors import UsageError

_PACKAGE = "understudy"


def missing_extra(doing: str, error: ImportError, extra: str) -> UsageError:
    """Return our error for a package that only `extra` brings (`drill`, or several: `drill,waitingroom`)."""
    return UsageError(doing, f"{error.name} is not installed", f"{how_to_add(extra)}.")


def how_to_add(extra: str) -> str:
    """Return how an extra is installed here, as a command where it is known from where we came.

    No package index is asked for `understudy`: we are on none, and somebody else could be.
    """
    source = _source()
    if source is None:
        extras = f"the extras {extra.replace(',', ' and ')}" if "," in extra else f"the extra {extra!r}"
        return f"install {extras} of understudy from where you installed it"
    before, place, after = source
    return f"{_pip()} install {before}{shlex.quote(f'{place}[{extra}]{after}')}"


def typed() -> str:
    """Return what to type for this program: `understudy`, or its path where the PATH has none."""
    script = Path(sys.executable).with_name(_PACKAGE)
    if shutil.which(_PACKAGE) or not script.exists():
        return _PACKAGE
    here = Path.cwd()
    return shlex.quote(str(script.relative_to(here) if script.is_relative_to(here) else script))


def as_typed(command: str) -> str:
    """Return a command of ours, `understudy up cluster`, as it is typed here."""
    return command.replace(_PACKAGE, typed(), 1) if command.split(" ", 1)[0] == _PACKAGE else command


def _source() -> tuple[str, str, str] | None:
    """Return what stands before, as, and after the name of what was installed; PEP 610 has pip write it down."""
    clone = Path(__file__).resolve().parents[2]
    if (clone / "pyproject.toml").is_file():
        return "-e ", str(clone), ""
    from importlib import metadata  # noqa: PLC0415 - slow, and seldom needed

    try:
        told = json.loads(metadata.distribution(_PACKAGE).read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return None
    url = str(told.get("url", ""))
    if "vcs_info" in told:
        revision = told["vcs_info"].get("requested_revision") or told["vcs_info"].get("commit_id", "")
        return "", _PACKAGE, f" @ {told['vcs_info'].get('vcs', 'git')}+{url}@{revision}"
    if "dir_info" in told:
        place = Path(unquote(urlsplit(url).path))
        return ("", str(place), "") if (place / "pyproject.toml").is_file() else None
    return None


def _pip() -> str:
    found = shutil.which("pip")
    if found and Path(found).parent.samefile(Path(sys.executable).parent):
        return "pip"
    return f"{shlex.quote(sys.executable)} -m pip"
