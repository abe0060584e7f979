"""What runs at night: the entries of one installation, and the port of whatever starts them."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from pydantic import AliasChoices, SecretStr

from understudy import settings as every_setting
from understudy.errors import RefusedError, UsageError
from understudy.operations.crontime import CronTime
from understudy.operations.tier import OFF, Tier, times
from understudy.settings import Settings

WAIT = "2h"  # daily, weekly and monthly can fall together
_ROOMS = ("redis_", "use_", "backup_", "postgres_", "qdrant_", "schedule_", "rehearse_")
_PLAIN = (
    "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE", "AWS_CA_BUNDLE", "AZURE_STORAGE_ACCOUNT_NAME", "GOOGLE_APPLICATION_CREDENTIALS",
    "PGPASSFILE", "UNDERSTUDY_HOME",
)  # fmt: skip
_SECRET = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN", "PGPASSWORD",
)  # fmt: skip
_CREDENTIALS = re.compile(r"://[^/\s@]*@")
_PLAIN_URL = re.compile(r"[a-z0-9+]+://([^/\s@:?#]+@)?[^/\s@?#]*(/[^\s@?#]*)?")  # a user's name is no secret
_STORES = {"POSTGRES_URL", "DATABASE_URL", "REDIS_URL", "QDRANT_URL"}


@dataclass(frozen=True)
class Plan:
    """One installation: which runs, where they are started, with what environment, and where they write.

    `key` is made of BACKUP_DIR and profile: two installations stand beside each other, the same one is replaced.
    """

    key: str
    title: str
    times: Mapping[Tier, CronTime]
    folder: Path
    environment: Mapping[str, str]
    program: tuple[str, ...]
    log_dir: Path
    env_file: Path | None = None
    homeless: tuple[str, ...] = field(default=())  # secrets that stand nowhere but in the environment of now

    def command(self, tier: Tier) -> str:
        """Return what `sh` has to run for a tier. Nothing secret stands in it."""
        log = self.log_dir / f"backup-{tier}.log"
        return (
            f"umask 077; mkdir -p {shlex.quote(str(self.log_dir))}; cd {shlex.quote(str(self.folder))} && "
            f"{self._run(tier)} >> {shlex.quote(str(log))} 2>&1"
        )

    def trial(self) -> str:
        """Return the first of the runs as one types it by day, with nothing in its environment that night lacks."""
        bare = 'env -i HOME="$HOME" PATH=/usr/bin:/bin'
        return f"cd {shlex.quote(str(self.folder))} && {bare} {self._run(next(iter(self.times)))}"

    def _run(self, tier: Tier) -> str:
        words = [*self.program, "schedule", "run", str(tier), "--wait", WAIT]
        if self.env_file:
            words += ["--env-file", str(self.env_file)]
        given = "".join(f"{name}={shlex.quote(value)} " for name, value in self.environment.items())
        return f"{given}{shlex.join(words)}"


@dataclass(frozen=True)
class Change:
    """What an installation or a removal did: whether anything changed, what is there now, and what is left to do."""

    changed: bool
    text: str
    to_do: tuple[str, ...] = ()


class Scheduler(Protocol):
    """The port: something of the system's that starts programs at a time. One file each in `schedules/`.

    Every method raises, with nothing changed, an error that says what the system refused.
    """

    name: ClassVar[str]
    program: ClassVar[str]

    def installed(self, key: str) -> dict[str, str]:
        """Return tier and cron time of what is installed under a key; nothing where nothing is."""

    def install(self, plan: Plan, *, dry_run: bool = False) -> Change:
        """Put a plan in place of what stands under its key; what is there already is left as it is."""

    def remove(self, key: str, *, dry_run: bool = False) -> Change:
        """Take everything away that stands under a key, and nothing else."""


def key_of(settings: Settings) -> str:
    """Return the key of the installation for this BACKUP_DIR and profile."""
    place = f"{settings.backup_dir.resolve()}\0{settings.profile}"
    return hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()[:8]


def log_dir_of(settings: Settings) -> Path:
    """Return where scheduled runs write: BACKUP_LOG_DIR, or `logs` beside the sets."""
    return (settings.backup_log_dir or settings.backup_dir / "logs").resolve()


def program() -> tuple[str, ...]:
    """Return how this program is started, by its full path."""
    beside = Path(sys.executable).with_name("understudy")
    return (str(beside),) if os.access(beside, os.X_OK) else (sys.executable, "-P", "-m", "understudy")


def plan(
    settings: Settings, environ: Mapping[str, str], env_file: Path | None = None, in_file: Collection[str] = ()
) -> Plan:
    """Return what is to be installed for these settings, started from the current directory.

    Settings that stand in the environment are given to the runs, for cron has an environment of its own; but not what
    is secret, nor the names `in_file` that the file of `env_file` says.

    Raises:
        UsageError: there is nothing to install, or a path or value has a line end in it.
        RefusedError: where a store is stands only in this environment, and is secret: a run would look elsewhere.
    """
    when = wanted_times(settings)
    given, secret = _environment(settings, environ, in_file)
    if lost := sorted(_STORES.intersection(secret)):
        raise RefusedError(
            "installing the schedule",
            f"{', '.join(lost)} stands only in this environment, with a secret in it: at night it would be missing, and"
            " a run would leave that store out, or take another server's data",
            "Put it as KEY=VALUE into a file (chmod 600), and: understudy schedule install --env-file FILE",
        )
    made = Plan(
        key_of(settings), f"{settings.backup_dir.resolve()}, profile {settings.profile}", when, Path.cwd(), given,
        program(), log_dir_of(settings), env_file.resolve() if env_file else None, secret,
    )  # fmt: skip
    for text in (made.title, *(made.command(tier) for tier in when)):
        if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
            raise UsageError(
                "installing the schedule", "a path or a value has a line end or another control character in it",
                "Put such values into a file for --env-file.",
            )  # fmt: skip
    return made


def wanted_times(settings: Settings) -> dict[Tier, CronTime]:
    """Return when each tier runs. Raises `UsageError` where none ever does."""
    when = times(settings)
    if not when:
        raise UsageError("installing the schedule", f"every tier is {OFF!r}", "Set SCHEDULE_DAILY='0 2 * * *'.")
    return when


def missing_at_night(settings: Settings, environ: Mapping[str, str], in_file: Collection[str]) -> tuple[str, ...]:
    """Return the secrets of this environment that neither the settings' file nor the names `in_file` give to a run."""
    return _environment(settings, environ, in_file)[1]


def _environment(
    settings: Settings, environ: Mapping[str, str], in_file: Collection[str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    given = {}
    config = Path(environ.get("UNDERSTUDY_CONFIG") or every_setting.DEFAULT_FILE)
    if config.exists():
        given["UNDERSTUDY_CONFIG"] = str(config.resolve())
    given["ENV_PROFILE"] = settings.profile
    secret = []
    written, in_file_too = every_setting.written(), set(in_file)
    for field_name, about in Settings.model_fields.items():
        if not field_name.startswith(_ROOMS):
            continue
        alias = about.validation_alias
        names = [str(one) for one in alias.choices] if isinstance(alias, AliasChoices) else [str(alias)]
        for place, name in enumerate(names):
            if not environ.get(name) or not in_file_too.isdisjoint(names[: place + 1]):
                continue
            plain = name.endswith("_URL") and _PLAIN_URL.fullmatch(environ[name])
            if not plain and (SecretStr.__name__ in str(about.annotation) or _CREDENTIALS.search(environ[name])):
                secret += [name] if names[0] not in written else []
            else:
                given[name] = environ[name]
    given |= {name: environ[name] for name in _PLAIN if environ.get(name) and name not in in_file}
    for field_name, name in every_setting.secret_file_names().items():
        if field_name.startswith(_ROOMS) and environ.get(name):
            given[name] = str(Path(environ[name]).resolve())
    secret += [name for name in _SECRET if environ.get(name) and name not in in_file]
    if "PGPASSWORD" in secret and "POSTGRES_PASSWORD" in written | in_file_too:
        secret.remove("PGPASSWORD")
    if "BACKUP_DIR" in given:
        given["BACKUP_DIR"] = str(settings.backup_dir.resolve())
    return {name: value for name, value in given.items() if name not in in_file}, tuple(secret)
