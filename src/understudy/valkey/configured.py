"""From settings to a target: which server do they mean?"""

from __future__ import annotations

import dataclasses

from understudy.errors import UsageError
from understudy.settings import LOCAL_PROFILE, Settings
from understudy.valkey.target import Address, Mode, Target, Tls

LOCAL_SEED = Address("127.0.0.1", 7001)
AZURE_PROFILES = ("DEVE", "STAG", "PROD")
AZURE_URL = "rediss://redis-oss-policy.koreacentral.redis.azure.net:10000"


def target_from(settings: Settings) -> Target | None:
    """Return the target that the settings name, or None where they name no server.

    REDIS_NODES gives the addresses, over those of REDIS_URL; REDIS_URL can give everything else, and REDIS_USERNAME,
    REDIS_PASSWORD and REDIS_TLS… each override it.

    Raises:
        UsageError: something cannot be read, or the profile is not `local` and names no server.
    """
    url = settings.redis_url
    if not url and not settings.redis_nodes:
        if settings.profile != LOCAL_PROFILE:
            raise UsageError(
                f"looking for the server of profile {settings.profile!r}", "neither REDIS_NODES nor REDIS_URL is set",
                f"Set one, or write it into understudy.toml under [profile.{settings.profile}.redis].",
            )  # fmt: skip
        return None
    target = Target.from_url(url.get_secret_value()) if url else Target(())
    if settings.redis_nodes:
        if not settings.redis_nodes.replace(",", "").strip():
            raise UsageError("reading REDIS_NODES", "it names no server", "Write it as host1:6379,host2:6379.")
        target = target.at(*(Address.parse(node) for node in settings.redis_nodes.split(",") if node.strip()))
    return with_credentials(target, settings)


def azure_target_from(settings: Settings) -> Target | None:
    """Return the Azure Managed Redis that PROFILE means, or None where it is none of `AZURE_PROFILES`.

    Its URL and its mode (`oss-cluster`) are defaults, over which REDIS_URL, REDIS_NODES and REDIS_MODE go.

    Raises:
        UsageError: neither an access key nor Entra ID is set, or something cannot be read.
    """
    if (settings.probe_profile or "").upper() not in AZURE_PROFILES:
        return None
    named = settings.redis_url or settings.redis_nodes
    target = target_from(settings) if named else with_credentials(Target.from_url(AZURE_URL), settings)
    if target is None or (target.password is None and not settings.redis_entra_id):
        raise UsageError(
            f"reaching Azure Managed Redis (PROFILE={settings.probe_profile})", "there is no access key",
            "Set REDIS_ACCESS_KEY, or REDIS_ENTRA_ID=true to sign in with Microsoft Entra ID.",
        )  # fmt: skip
    return target if target.mode is not Mode.AUTO else target.with_mode(Mode.OSS_CLUSTER)


def with_credentials(target: Target, settings: Settings) -> Target:
    """Return the target with the mode, user, password and TLS that the settings name."""
    password, sentinel_password = settings.redis_password, settings.redis_sentinel_password
    return dataclasses.replace(
        target,
        mode=_mode(settings) or target.mode,
        username=settings.redis_username or target.username,
        password=password.get_secret_value() if password else target.password,
        sentinel_password=sentinel_password.get_secret_value() if sentinel_password else target.sentinel_password,
        service=settings.redis_service or target.service,
        tls=_tls(settings, target.tls),
    )


def _mode(settings: Settings) -> Mode | None:
    if settings.redis_mode:
        try:
            return Mode(settings.redis_mode)
        except ValueError:
            raise UsageError(
                f"reading REDIS_MODE {settings.redis_mode!r}", "there is no such mode",
                f"Choose one of {', '.join(Mode)}.",
            ) from None  # fmt: skip
    return Mode.OSS_CLUSTER if settings.use_cluster else None


def _tls(settings: Settings, given: Tls | None) -> Tls | None:
    wanted = settings.redis_tls if settings.redis_tls is not None else bool(given or settings.redis_tls_ca)
    if not wanted:
        return None
    return Tls(
        settings.redis_tls_ca or (given.ca_file if given else None),
        settings.redis_tls_cert,
        settings.redis_tls_key,
        settings.redis_tls_verify,
    )
