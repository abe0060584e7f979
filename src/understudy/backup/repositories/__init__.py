"""The places where sets can be kept, one file each; `repository.py` says what one is."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from understudy.errors import UnreachableError

if TYPE_CHECKING:
    from understudy.backup.repository import Repository

_URI = re.compile(r"[a-z][a-z0-9+.-]*://")
_RSYNC = re.compile(r"rsync://|([^/:@]+@)?[^/:@]{2,}:(?!//)")  # host:/path, user@host:path, rsync://host/module


def is_rsync(place: str) -> bool:
    """Tell whether a text names a place by rsync."""
    return _RSYNC.match(place) is not None


def is_uri(place: str) -> bool:
    """Tell whether a text is a URI."""
    return _URI.match(place) is not None


def open_repository(place: str | Path) -> Repository:
    """Return the repository at a URI, at host:/path by rsync, or in a directory.

    A directory has to be there: one that is made where nothing is mounted would be on the wrong disk.

    Raises:
        UsageError: the URI cannot be read, or what it needs is not installed.
        UnreachableError: there is no such directory.
    """
    text = str(place)
    if isinstance(place, str) and is_rsync(text):
        name, kind = "rsync", "RsyncRepository"
    elif is_uri(text):
        name, kind = "objectstore", "ObjectStoreRepository"
    else:
        name, kind, place = "local", "LocalRepository", Path(place)
        if not place.is_dir():
            raise UnreachableError(
                f"opening {text}", "there is no such directory",
                "Is it mounted? If it is a new one: mkdir -m 700. Other places: s3://bucket/prefix, user@host:/path.",
            )  # fmt: skip
    module = importlib.import_module(f"understudy.backup.repositories.{name}")
    repository: Repository = getattr(module, kind)(place)
    return repository
