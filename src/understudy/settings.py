"""What was asked: flag > environment > understudy.toml > default, one value for each setting.

`understudy.toml` (or the file that UNDERSTUDY_CONFIG names) has sections, and overrides for each ENV_PROFILE:

    [redis]
    nodes = ["127.0.0.1:7001"]

    [profile.prd.redis]
    url = "rediss://backup@cache.example.com:6380"
    mode = "oss-cluster"
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, ByteSize, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from understudy.errors import UsageError

LOCAL_PROFILE = "local"
MOST_DAYS = 36_500  # a hundred years
DEFAULT_FILE = "understudy.toml"
NO_SECRET = "# no secret"  # noqa: S105 - that there is none
"""What a file of a secret says where there is none: a compose file cannot leave one out."""
# the two ways to say where the server is: whoever gives one of them, closer by, means another server altogether
_WHERE = {"url", "nodes"}
_WHERE_NAMES = {"REDIS_URL", "REDIS_NODES"}
Names = Annotated[tuple[str, ...], NoDecode]  # with commas between in the environment, a list in the file


class Settings(BaseSettings):
    """Every setting, with the environment name that the documents give it."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    profile: str = Field(LOCAL_PROFILE, validation_alias="ENV_PROFILE")
    redis_url: SecretStr | None = Field(None, validation_alias="REDIS_URL")
    redis_nodes: str | None = Field(None, validation_alias="REDIS_NODES")
    redis_mode: str | None = Field(None, validation_alias="REDIS_MODE")
    use_cluster: bool = Field(False, validation_alias="USE_CLUSTER")
    redis_username: str | None = Field(None, validation_alias="REDIS_USERNAME")
    redis_password: SecretStr | None = Field(None, validation_alias=AliasChoices("REDIS_PASSWORD", "REDIS_ACCESS_KEY"))
    redis_sentinel_password: SecretStr | None = Field(None, validation_alias="REDIS_SENTINEL_PASSWORD")
    redis_service: str | None = Field(None, validation_alias="REDIS_SENTINEL_SERVICE")
    redis_tls: bool | None = Field(None, validation_alias="REDIS_TLS")
    redis_tls_ca: str | None = Field(None, validation_alias="REDIS_TLS_CA")
    redis_tls_cert: str | None = Field(None, validation_alias="REDIS_TLS_CERT")
    redis_tls_key: str | None = Field(None, validation_alias="REDIS_TLS_KEY")
    redis_tls_verify: bool = Field(True, validation_alias="REDIS_TLS_VERIFY")
    redis_entra_id: bool = Field(False, validation_alias="REDIS_ENTRA_ID")

    backup_dir: Path = Field(Path("backups"), validation_alias="BACKUP_DIR")
    backup_s3_uri: str | None = Field(None, validation_alias="S3_URI")
    backup_match: str | None = Field(None, validation_alias="BACKUP_MATCH")
    backup_chunk_keys: int = Field(100_000, validation_alias="BACKUP_CHUNK_KEYS", ge=1, le=10_000_000)
    backup_max_rate: float = Field(0.0, validation_alias="BACKUP_MAX_RATE", ge=0)
    backup_engine: Literal["scan", "replica", "auto"] = Field("scan", validation_alias="BACKUP_ENGINE")
    backup_pause: bool = Field(True, validation_alias="BACKUP_PAUSE")
    backup_format: Literal["jsonl", "rdb", "both"] = Field("jsonl", validation_alias="BACKUP_FORMAT")
    backup_slice_bytes: ByteSize = Field(
        ByteSize(64 << 20), validation_alias="BACKUP_SLICE_BYTES", ge=1 << 16, le=512 << 20
    )

    backup_name: str | None = Field(None, validation_alias="BACKUP_NAME")
    backup_components: Names = Field((), validation_alias="BACKUP_COMPONENTS")
    backup_optional: Names = Field((), validation_alias="BACKUP_OPTIONAL")
    backup_may_be_empty: Names = Field((), validation_alias="BACKUP_MAY_BE_EMPTY")
    backup_recipients: Names = Field((), validation_alias="BACKUP_RECIPIENTS")
    backup_passphrase: SecretStr | None = Field(None, validation_alias="BACKUP_PASSPHRASE")
    backup_identity: Path | None = Field(None, validation_alias="BACKUP_IDENTITY")
    backup_offsite: Names = Field((), validation_alias="BACKUP_OFFSITE")
    backup_daily_retention: int = Field(
        7,
        validation_alias=AliasChoices("BACKUP_DAILY_RETENTION", "DAILY_RETENTION", "RETENTION_DAYS"),
        ge=1,
        le=MOST_DAYS,
    )
    backup_weekly_retention: int = Field(
        30, validation_alias=AliasChoices("BACKUP_WEEKLY_RETENTION", "WEEKLY_RETENTION"), ge=1, le=MOST_DAYS
    )
    backup_monthly_retention: int = Field(
        365, validation_alias=AliasChoices("BACKUP_MONTHLY_RETENTION", "MONTHLY_RETENTION"), ge=1, le=MOST_DAYS
    )
    backup_safety_retention: int = Field(7, validation_alias="BACKUP_SAFETY_RETENTION", ge=1, le=MOST_DAYS)
    backup_daily_keep: int = Field(0, validation_alias="BACKUP_DAILY_KEEP", ge=0)
    backup_weekly_keep: int = Field(0, validation_alias="BACKUP_WEEKLY_KEEP", ge=0)
    backup_monthly_keep: int = Field(0, validation_alias="BACKUP_MONTHLY_KEEP", ge=0)
    backup_notify: Annotated[tuple[SecretStr, ...], NoDecode] = Field((), validation_alias="BACKUP_NOTIFY")
    backup_notify_email: str | None = Field(None, validation_alias="BACKUP_NOTIFY_EMAIL")
    backup_notify_webhook: SecretStr | None = Field(None, validation_alias="BACKUP_NOTIFY_WEBHOOK")
    backup_notify_success: bool = Field(False, validation_alias="BACKUP_NOTIFY_SUCCESS")
    backup_metrics_file: Path | None = Field(None, validation_alias="BACKUP_METRICS_FILE")
    backup_log_dir: Path | None = Field(None, validation_alias="BACKUP_LOG_DIR")

    archive_every: float = Field(5.0, validation_alias="ARCHIVE_EVERY", ge=0.2, le=3600)
    archive_keep_days: int = Field(7, validation_alias="ARCHIVE_KEEP_DAYS", ge=1, le=MOST_DAYS)
    archive_base_every_hours: float = Field(24.0, validation_alias="ARCHIVE_BASE_EVERY_HOURS", gt=0, le=24 * MOST_DAYS)
    archive_most_disk: ByteSize = Field(ByteSize(10 << 30), validation_alias="ARCHIVE_MOST_DISK", ge=1 << 20)
    archive_metrics_port: int = Field(0, validation_alias="ARCHIVE_METRICS_PORT", ge=0, le=65535)

    postgres_url: SecretStr | None = Field(None, validation_alias=AliasChoices("POSTGRES_URL", "DATABASE_URL"))
    postgres_password: SecretStr | None = Field(None, validation_alias="POSTGRES_PASSWORD")
    postgres_databases: Names = Field((), validation_alias="POSTGRES_DATABASES")
    postgres_format: Literal["custom", "directory"] = Field("custom", validation_alias="POSTGRES_FORMAT")
    postgres_jobs: int = Field(2, validation_alias="POSTGRES_JOBS", ge=1, le=64)
    postgres_bin: Path | None = Field(None, validation_alias="POSTGRES_BIN")

    qdrant_url: str | None = Field(None, validation_alias="QDRANT_URL")
    qdrant_api_key: SecretStr | None = Field(None, validation_alias="QDRANT_API_KEY")
    qdrant_collections: Names = Field((), validation_alias="QDRANT_COLLECTIONS")

    schedule_daily: str = Field("0 2 * * *", validation_alias="SCHEDULE_DAILY")
    schedule_weekly: str = Field("0 3 * * 0", validation_alias="SCHEDULE_WEEKLY")
    schedule_monthly: str = Field("0 4 1 * *", validation_alias="SCHEDULE_MONTHLY")
    schedule_by: str | None = Field(None, validation_alias="SCHEDULE_BY")

    rehearse_qdrant_url: str | None = Field(None, validation_alias="REHEARSE_QDRANT_URL")
    rehearse_qdrant_api_key: SecretStr | None = Field(None, validation_alias="REHEARSE_QDRANT_API_KEY")
    rehearse_postgres_url: SecretStr | None = Field(None, validation_alias="REHEARSE_POSTGRES_URL")
    rehearse_max_age_days: int = Field(35, validation_alias="REHEARSE_MAX_AGE_DAYS", ge=1, le=MOST_DAYS)
    rehearse_checks: tuple[dict[str, Any], ...] = Field((), validation_alias="REHEARSE_CHECKS")

    probe_profile: str | None = Field(None, validation_alias="PROFILE")
    probe_port: int = Field(3000, validation_alias="PORT", ge=0, le=65535)
    probe_health_check_interval: int = Field(30_000, validation_alias="HEALTH_CHECK_INTERVAL", ge=100, le=86_400_000)
    probe_token: SecretStr | None = Field(None, validation_alias="PROBE_TOKEN")

    waitingroom_port: int = Field(8080, validation_alias="WAITINGROOM_PORT", ge=0, le=65535)
    waitingroom_secret: SecretStr | None = Field(None, validation_alias="WAITINGROOM_SECRET")
    waitingroom_signing_key: Path | None = Field(None, validation_alias="WAITINGROOM_SIGNING_KEY")
    waitingroom_replicas: int = Field(0, validation_alias="WAITINGROOM_REPLICAS", ge=0, le=10)

    drill_client: dict[str, dict[str, Any]] = Field({}, validation_alias="DRILL_CLIENT")

    @field_validator(
        "backup_components", "backup_optional", "backup_may_be_empty", "backup_recipients", "backup_offsite",
        "backup_notify", "postgres_databases", "qdrant_collections", mode="before",
    )  # fmt: skip
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @field_validator("redis_nodes", mode="before")
    @classmethod
    def _joined(cls, value: Any) -> Any:
        return ",".join(map(str, value)) if isinstance(value, list) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's shape
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put files of secrets below the environment, and the settings' file below both."""
        return init_settings, env_settings, _SecretFiles(settings_cls), _Toml(settings_cls)


class _SecretFiles(PydanticBaseSettingsSource):
    """`POSTGRES_PASSWORD_FILE=/run/secrets/…`: a secret that containers get as a file, under its name and `_FILE`."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - unused by `__call__`
        """Not used: all are read at once."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, variable in secret_file_names().items():
            if path := os.environ.get(variable):
                try:
                    text = Path(path).read_text().rstrip("\r\n")
                except (OSError, UnicodeDecodeError) as error:
                    why = error.strerror if isinstance(error, OSError) else "it is no text"
                    raise UsageError(f"reading {path}", why or str(error), f"Check {variable}.") from None
                if not text.strip():  # a set that was to be encrypted must not be plain because a disk was full
                    raise UsageError(
                        f"reading {path}", "it is empty, and a secret was to be in it",
                        f"Check {variable}. A file that says `{NO_SECRET}` means that there is none.",
                    )  # fmt: skip
                if text != NO_SECRET:
                    found.setdefault(alias(name), text)
        return found


def secret_file_names() -> dict[str, str]:
    """Return the settings that are one secret, and the environment variable that names a file with it."""
    return {
        name: f"{alias(name)}_FILE"
        for name, about in Settings.model_fields.items()
        if about.annotation in (SecretStr, SecretStr | None)
    }


class _Toml(PydanticBaseSettingsSource):
    """`[section] key` is the field `section_key`; `[profile.NAME.section]` overrides it for that profile."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - unused by `__call__`
        """Not used: the file is read as a whole."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        path = Path(os.environ.get("UNDERSTUDY_CONFIG") or DEFAULT_FILE)
        try:
            document = tomllib.loads(path.read_text())
        except FileNotFoundError:
            if "UNDERSTUDY_CONFIG" in os.environ:
                raise UsageError(f"reading {path}", "there is no such file", "Check UNDERSTUDY_CONFIG.") from None
            return {}
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"reading {path}", str(error), "See docs/settings.md for an example.") from error
        profiles = document.pop("profile", {})
        if not isinstance(profiles, dict) or not all(isinstance(one, dict) for one in profiles.values()):
            raise UsageError(f"reading {path}", "'profile' is no section of sections", "Write [profile.prd.redis].")
        chosen = os.environ.get("ENV_PROFILE", LOCAL_PROFILE)
        if chosen != LOCAL_PROFILE and profiles and chosen not in profiles:
            raise UsageError(
                f"reading {path}", f"it has no profile {chosen!r}, only {', '.join(profiles)}", "Check ENV_PROFILE."
            )
        flat: dict[str, Any] = {}
        for sections in (document, profiles.get(chosen, {})):
            if (
                isinstance(sections.get("redis"), dict) and _WHERE & sections["redis"].keys()
            ):  # a server that is named here replaces one named above
                flat = {name: value for name, value in flat.items() if name not in _WHERE_NAMES}
            for section, values in sections.items():
                if not isinstance(values, dict):
                    raise UsageError(f"reading {path}", f"{section!r} stands outside of a section")
                for key, value in values.items():
                    name = f"{section}_{key}"
                    if name not in Settings.model_fields:
                        raise UsageError(
                            f"reading {path}", f"there is no setting {key!r} in [{section}]{_meant(section, key)}",
                            "docs/settings.md names every setting.",
                        )  # fmt: skip
                    flat[alias(name)] = value
        if any(os.environ.get(name) or os.environ.get(f"{name}_FILE") for name in _WHERE_NAMES):
            flat = {name: value for name, value in flat.items() if name not in _WHERE_NAMES}
        return flat


def _meant(section: str, key: str) -> str:
    """Return a question after the setting that is spelt most like this one, or nothing where none is."""
    known: dict[str, list[str]] = {}
    for name in Settings.model_fields:
        start, _, rest = name.partition("_")
        known.setdefault(start, []).append(rest)
    sections = difflib.get_close_matches(section.lower(), known, n=1)
    keys = difflib.get_close_matches(key.lower().replace("-", "_"), known[sections[0]], n=1) if sections else []
    return f"; did you mean {keys[0]!r} in [{sections[0]}]?" if keys else ""


def alias(name: str) -> str:
    """Return the one name under which all sources give a field, so that one can override the other."""
    alias = Settings.model_fields[name].validation_alias
    return str(alias.choices[0] if isinstance(alias, AliasChoices) else alias)


def written() -> set[str]:
    """Return the environment names (the first of each) of what the file says for this profile."""
    return set(_Toml(Settings)())


def load(**flags: Any) -> Settings:
    """Return the settings; flags that are None were not given.

    Raises:
        UsageError: a value is not of its kind, or the file cannot be read.
    """
    given = {alias(name): value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        hint = "See docs/settings.md."
        if name.endswith(("_RETENTION", "RETENTION_DAYS")):
            hint = f"It is in days. For ever: {MOST_DAYS}. To take none of a tier: SCHEDULE_DAILY=off (and so on)."
        raise UsageError(f"reading the setting {name}", first["msg"].removeprefix("Value error, "), hint) from None
