"""Nothing of yours: while the demo starts gateways and a rehearsal, no setting of whoever runs it is read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import AliasChoices

from understudy.settings import Settings, secret_file_names

CONFIG = "UNDERSTUDY_CONFIG"


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Take every setting out of the environment, and name an empty settings file in `directory`; then put all back."""
    names = {CONFIG, *secret_file_names().values()}
    for field in Settings.model_fields.values():
        alias = field.validation_alias
        names |= set(map(str, alias.choices)) if isinstance(alias, AliasChoices) else {str(alias)}
    kept = {name: os.environ.pop(name) for name in names & os.environ.keys()}
    empty = directory / "nothing.toml"
    empty.touch()
    os.environ[CONFIG] = str(empty)
    try:
        yield
    finally:
        del os.environ[CONFIG]
        os.environ.update(kept)
