"""Which components a command is about, and what they become: connections to PostgreSQL, Redis and Qdrant."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from understudy.cli.options import target_of
from understudy.errors import UnderstudyError, UsageError

if TYPE_CHECKING:
    from understudy.backup.component import Component
    from understudy.backup.repository import Repository
    from understudy.backup.set import BackupSet
    from understudy.progress import Progress
    from understudy.settings import Settings

_SETTINGS = {"postgres": "POSTGRES_URL", "qdrant": "QDRANT_URL"}


def names_of(settings: Settings, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the components that are meant: those named, those of BACKUP_COMPONENTS, or those configured; else redis.

    Raises:
        UsageError: there is no component of that name.
    """
    from understudy.backup.components import NAMES

    wanted = {str(name) for name in names or settings.backup_components}
    if unknown := sorted(wanted.difference(NAMES)):
        raise UsageError(
            "choosing components", f"there is no component {unknown[0]!r}", f"Choose from {', '.join(NAMES)}."
        )
    if not wanted:
        wanted = {name for name in NAMES if _configured(settings, name)} or {"redis"}
    return tuple(name for name in NAMES if name in wanted)


def expected_in(settings: Settings, backup: BackupSet, repository: Repository, names: Sequence[str] = ()) -> list[str]:
    """Return what is configured and not in a set, or was missing when it was taken: a sentence each.

    Where components are named, nothing is said of others.
    """
    from understudy.backup.components import NAMES
    from understudy.backup.contents import changes
    from understudy.backup.describe import lacking
    from understudy.backup.repository import LATEST, SAFETY, find

    def newest_with(name: str) -> str | None:
        try:
            return str(find(repository, LATEST, settings.profile, [name], named=settings.backup_name).id)
        except UnderstudyError:
            return None

    configured = settings.backup_components or [name for name in NAMES if _configured(settings, name)]
    wanted = {*configured, *backup.metadata.missing}
    if names or backup.metadata.id.name == SAFETY:  # that holds what a restore replaced, and is to hold no more
        wanted = set(names)
    told = lacking(backup.metadata, wanted, newest_with)
    picked = [one for one in backup.metadata.components if not names or one in names]
    if backup.metadata.id.name != SAFETY and "at" not in backup.metadata.components.get("redis", {}):
        told += [
            f"{one}. To restore that: {one.command}"
            for one in changes(backup.metadata, repository, settings.backup_may_be_empty)
            if one.lost and one.component in picked
        ]
    if settings.backup_name and backup.metadata.id.name not in {settings.backup_name, SAFETY}:
        told.append(f"this set is named {backup.metadata.id.name}, and BACKUP_NAME is {settings.backup_name}")
    return told


def optional_of(settings: Settings) -> tuple[str, ...]:
    """Return the components without which a set is still one (BACKUP_OPTIONAL). Raises `UsageError` for others."""
    return names_of(settings, settings.backup_optional) if settings.backup_optional else ()


def components_of(
    settings: Settings, names: Sequence[str] | None = None, *, for_restore: bool = False, guess: bool = True
) -> list[Component]:
    """Return the components that are meant, in order; nothing is connected yet.

    `for_restore` reads all of a store where a backup is asked to read a part of it (BACKUP_MATCH). Without `guess` a
    Redis that is not configured is not looked for in the running lab or on this machine: nobody looks on at night.

    Raises:
        UsageError: one of them is not configured.
    """
    if not guess and "redis" in names_of(settings, names) and not _configured(settings, "redis"):
        raise UsageError(
            "choosing the stores of a run", "none is configured that is meant: REDIS_URL and REDIS_NODES are not set",
            "Name the stores in understudy.toml, or in the file of --env-file: POSTGRES_URL, REDIS_NODES, QDRANT_URL.",
        )  # fmt: skip
    return [_component(settings, name, for_restore) for name in names_of(settings, names)]


def told_if_unset(settings: Settings, name: str, shown: Progress) -> bool:
    """Return whether a store is configured; say so where it is not."""
    if not _configured(settings, name):
        shown.say(f"Warning: {name} is not compared: {_SETTINGS[name]} is not set.")
    return _configured(settings, name)


def _configured(settings: Settings, name: str) -> bool:
    if name == "redis":
        return bool(settings.redis_url or settings.redis_nodes)
    return bool(getattr(settings, f"{name}_url"))


def _component(settings: Settings, name: str, for_restore: bool) -> Component:
    from understudy.backup.components import kind

    if name == "redis":
        from understudy.backup.components.redis import ReadOptions, RedisComponent

        if not _configured(settings, name) and _is_stack(settings):
            raise _unset(name, "REDIS_URL (or REDIS_NODES)")
        match = None if for_restore else settings.backup_match
        formats = ("jsonl", "rdb") if settings.backup_format == "both" else (settings.backup_format,)
        how = ("scan", True, ("jsonl",)) if for_restore else (settings.backup_engine, settings.backup_pause, formats)
        options = ReadOptions(
            match, settings.backup_chunk_keys, settings.backup_max_rate, *how, settings.backup_slice_bytes,
        )  # fmt: skip
        return RedisComponent(target_of(settings), options)
    if not _configured(settings, name):
        raise _unset(name, _SETTINGS[name])
    found: Component = cast(Any, kind(name)).from_settings(settings)
    return found


def _is_stack(settings: Settings) -> bool:
    """Tell whether other stores are configured and no lab runs: then redis is not guessed to be on this machine."""
    from understudy.lab import named

    return any(_configured(settings, other) for other in _SETTINGS) and not named.running()


def _unset(name: str, setting: str) -> UsageError:
    return UsageError(
        f"connecting to {name}", f"{setting} is not set", f"Set {setting}, or name the other components: --component."
    )
