"""The places where sets can be kept, one file each; `repository.py` says what one is."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from understudy.backup.repository import Repository

_OBJECT_STORE = re.compile(r"(s3|az|azure|gs|memory)://")
_RSYNC = re.compile(r"rsync://|([^/:@]+@)?[^/:@]{2,}:")  # host:/path, user@host:path, rsync://host/module


def open_repository(place: str | Path) -> Repository:
    """Return the repository at a URI, at host:/path by rsync, or in a directory.

    Raises:
        UsageError: the URI cannot be read, or what it needs is not installed.
    """
    text = str(place)
    if _OBJECT_STORE.match(text):
        name, kind = "objectstore", "ObjectStoreRepository"
    elif isinstance(place, str) and _RSYNC.match(text):
        name, kind = "rsync", "RsyncRepository"
    else:
        name, kind, place = "local", "LocalRepository", Path(place)
    module = importlib.import_module(f"understudy.backup.repositories.{name}")
    repository: Repository = getattr(module, kind)(place)
    return repository
