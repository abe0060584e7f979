"""Options that several commands share, and what they become: settings, a target, repositories."""

# ruff: noqa: PLC0415 - what is heavy is imported when the command runs

from __future__ import annotations

import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from understudy.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from understudy.backup.encryption import Key
    from understudy.backup.repositories.local import LocalRepository
    from understudy.backup.repository import Repository
    from understudy.settings import Settings
    from understudy.valkey.target import Target


class ComponentName(StrEnum):
    """The components that a set can hold."""

    POSTGRES = "postgres"
    REDIS = "redis"
    QDRANT = "qdrant"


_OPTIONS = {"backup_metrics_file": "--metrics"}  # of other names than the setting's


def globbed(given: str | None) -> str | None:
    """Refuse an empty glob: `--match "$GLOB"` without a GLOB."""
    if given is not None and not given.strip():
        raise UsageError(
            "reading --match", "an empty glob matches no key",
            "Is a variable not set? For every key leave --match away.",
        )  # fmt: skip
    return given


def named(given: Any) -> Any:
    """Refuse an empty name, which would mean the newest set, or this directory: `restore "$SET"` without a SET."""
    for name in given if isinstance(given, list) else [given]:
        if name is not None and not name.strip():
            raise UsageError(
                "reading the command",
                "an empty name is no set and no place",
                "Is a variable not set? `latest` is a name.",
            )
    return given


OutDir = Annotated[Path | None, typer.Option("--out-dir", help="Where sets are kept (BACKUP_DIR; ./backups).")]
S3Uri = Annotated[
    str | None, typer.Option("--s3-uri", help="Other place: s3://bucket/prefix, a directory, host:/path (S3_URI).")
]
Identity = Annotated[
    Path | None, typer.Option("--identity", help="Secret key that opens encrypted sets (BACKUP_IDENTITY).")
]
Components = Annotated[list[ComponentName] | None, typer.Option("--component", help="Only this component; repeatable.")]


def settings_from(out_dir: Path | None = None, s3_uri: str | None = None, **others: object) -> Settings:
    """Return the settings with these flags on top."""
    from understudy import settings

    try:
        return settings.load(backup_dir=out_dir, backup_s3_uri=s3_uri, **others)
    except UsageError as error:
        for field in (name for name, value in others.items() if value is not None):
            if error.doing == f"reading the setting {(setting := settings.alias(field))}":
                error.doing = f"reading {_OPTIONS.get(field) or '--' + _after_section(field)} (the setting {setting})"
        raise


def _after_section(field: str) -> str:
    return field.partition("_")[2].replace("_", "-")


def target_of(settings: Settings) -> Target:
    """Return the server that is meant: the configured one, else the one running lab, else 127.0.0.1:7001."""
    from understudy.valkey import configured
    from understudy.valkey.target import Target

    target = configured.target_from(settings)
    if target is not None:
        return target
    from understudy.lab import named

    labs = named.running()
    if len(labs) > 1:
        raise UsageError(
            "choosing a server", f"{len(labs)} labs are running ({', '.join(one.name for one in labs)})",
            f"Say which with REDIS_NODES, for example REDIS_NODES={labs[0].target().seeds[0]}.",
        )  # fmt: skip
    if labs:
        seeds = labs[0].target().seeds
        print(f"Using the lab {labs[0].name!r} at {seeds[0]}.", file=sys.stderr)
        return configured.with_credentials(labs[0].target(), settings)
    print(f"Using {configured.LOCAL_SEED}: no server is configured here, and no lab runs.", file=sys.stderr)
    return configured.with_credentials(Target((configured.LOCAL_SEED,)), settings)


def local_repository(settings: Settings) -> LocalRepository:
    """Return the repository in BACKUP_DIR."""
    from understudy.backup.repositories.local import LocalRepository

    return LocalRepository(settings.backup_dir)


def remote_repository(settings: Settings) -> Repository | None:
    """Return the place of S3_URI, if there is one: an object store, a directory, or host:/path."""
    if not settings.backup_s3_uri:
        return None
    from understudy.backup.repositories import open_repository

    return open_repository(settings.backup_s3_uri)


def needed_remote(settings: Settings) -> Repository:
    """Return the place of S3_URI, which must be named."""
    remote = remote_repository(settings)
    if remote is None:
        raise NotFoundError(
            "looking for the object store",
            "neither --s3-uri nor S3_URI is set",
            "--s3-uri s3://bucket/prefix, or a directory, or host:/path",
        )
    return remote


def key_of(settings: Settings) -> Key:
    """Return what opens encrypted sets: BACKUP_IDENTITY, BACKUP_PASSPHRASE, or nothing."""
    from understudy.backup.encryption import Key

    return Key.from_settings(settings)


def duration_s(text: str) -> float:
    """Return the seconds of `500ms`, `10s`, `2m` or `1h`; a number alone is seconds.

    Raises:
        UsageError: it is no duration.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", text.strip())
    if not found:
        raise UsageError(
            f"reading the duration {text!r}", "it is not a number and a unit", "For example 500ms, 10s, 2m."
        )
    return float(found[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[found[2] or "s"]
