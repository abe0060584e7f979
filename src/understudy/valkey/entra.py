"""Microsoft Entra ID for Azure Managed Redis: user and password are an object id and a token that is renewed.

The identity is found as Azure's own tools find it (`DefaultAzureCredential`): environment variables, workload and
managed identity, the Azure command line.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from redis.credentials import CredentialProvider

from understudy import installed
from understudy.errors import NotAuthorisedError, UsageError
from understudy.valkey.target import Target

SCOPE = "https://redis.azure.com/.default"
_TOKEN_WITHIN_MS = 15_000  # the package allows 100 ms, and `az` alone takes seconds
_RENEW_AT = 0.7  # of a token's life
_TRIES = 3
_RETRY_AFTER_MS = 500


def credentials_for(target: Target) -> CredentialProvider:
    """Return what signs connections to this target in.

    Raises:
        UsageError: the extra `azure` is not installed, or the target is reached without TLS.
    """
    if target.tls is None:
        raise UsageError(
            f"signing in to {target} with Entra ID", "the connection has no TLS, and would show the token",
            "Write the URL as rediss://, or set REDIS_TLS=true.",
        )  # fmt: skip
    try:
        from redis.auth.token_manager import RetryPolicy, TokenManagerConfig  # noqa: PLC0415 - an extra
        from redis_entraid.cred_provider import create_from_default_azure_credential  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError as error:
        raise installed.missing_extra("signing in with Entra ID", error, "azure") from error
    policy = TokenManagerConfig(_RENEW_AT, 0, _TOKEN_WITHIN_MS, RetryPolicy(_TRIES, _RETRY_AFTER_MS))
    provider: CredentialProvider = create_from_default_azure_credential((SCOPE,), token_manager_config=policy)
    return provider


def signed_in(target: Target, credentials: CredentialProvider | None) -> Target:
    """Return the target with the user and password of this moment, for connections that are made by hand.

    Raises:
        NotAuthorisedError: no token was given.
    """
    if credentials is None:
        return target
    try:
        given: tuple[Any, ...] = credentials.get_credentials()
        username, password = given
    except Exception as error:  # noqa: BLE001 - the identity library raises errors of many kinds, Exception itself too
        raise NotAuthorisedError(
            f"signing in to {target} with Entra ID", type(error).__name__,
            "Check the identity with `az account get-access-token`, and its role on the cache.",
        ) from None  # fmt: skip
    return dataclasses.replace(target, username=username, password=password)
