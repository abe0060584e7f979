"""The variables of requirement document 2 for Azure, and signing in with an identity instead of a password."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest
from redis.auth.idp import IdentityProviderInterface
from redis.auth.token import JWToken, TokenInterface
from redis.auth.token_manager import RetryPolicy, TokenManagerConfig
from redis_entraid.cred_provider import EntraIdCredentialsProvider

from probe.conftest import serving
from understudy import settings
from understudy.errors import NotAuthorisedError, UsageError
from understudy.lab import Lab
from understudy.lab.talk import ask
from understudy.valkey.configured import AZURE_URL, azure_target_from
from understudy.valkey.entra import credentials_for, signed_in
from understudy.valkey.target import Mode, Target

OBJECT_ID = "9b2f7a52-0000-4000-8000-2f6f0e8a77aa"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "REDIS_NODES", "REDIS_MODE", "REDIS_ACCESS_KEY", "REDIS_PASSWORD", "USE_CLUSTER"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("profile", ["DEVE", "STAG", "PROD"])
def test_an_azure_profile_has_the_documents_defaults(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_ACCESS_KEY", "the-key")
    target = azure_target_from(settings.load(probe_profile=profile))
    assert target and target.mode is Mode.OSS_CLUSTER and target.tls and target.password == "the-key"
    assert str(target) == AZURE_URL.removeprefix("rediss://")
    monkeypatch.setenv("REDIS_MODE", "enterprise")
    monkeypatch.setenv("REDIS_URL", "rediss://mine.example:10000")
    target = azure_target_from(settings.load(probe_profile=profile))
    assert target and (str(target), target.mode) == ("mine.example:10000", Mode.ENTERPRISE)


def test_any_other_profile_is_local() -> None:
    assert azure_target_from(settings.load()) is None
    assert azure_target_from(settings.load(probe_profile="LOCAL")) is None


def test_without_a_key_azure_is_refused_unless_an_identity_signs_in() -> None:
    with pytest.raises(UsageError) as refused:
        azure_target_from(settings.load(probe_profile="PROD"))
    assert "REDIS_ACCESS_KEY" in refused.value.hint
    assert azure_target_from(settings.load(probe_profile="PROD", redis_entra_id=True))


class Identity(IdentityProviderInterface):
    """Gives tokens of the form that Entra ID gives, signed by nobody."""

    asked = 0

    def request_token(self, force_refresh: bool = False) -> TokenInterface:
        self.asked += 1
        claims: dict[str, Any] = {"oid": OBJECT_ID, "exp": time.time() + 3600, "iat": time.time()}
        return JWToken(jwt.encode(claims, "not-a-secret-of-anybody-at-all-32b", algorithm="HS256"))


def test_an_identity_signs_in_the_long_lived_client_fresh_ones_and_what_is_made_by_hand(valkey_standalone: Lab) -> None:
    identity = Identity()
    token = identity.request_token()
    identity.request_token = lambda force_refresh=False: token  # type: ignore[method-assign]
    provider = EntraIdCredentialsProvider(identity, TokenManagerConfig(0.7, 0, 1000, RetryPolicy(3, 10)))
    node = valkey_standalone.nodes[0]
    ask(node, None, "ACL", "SETUSER", OBJECT_ID, "on", f">{token.get_value()}", "~*", "&*", "+@all")
    ask(node, None, "ACL", "SETUSER", "default", "off")
    try:
        with serving(valkey_standalone.target(), credentials=provider) as probe:
            status = probe.get("/redis/status")
            assert status["connected"] and status["fresh"]["connected"]
            users = {one["fields"]["user"] for one in probe.get("/redis/client-list")["clients"]}
            assert users == {OBJECT_ID}
            assert token.get_value() not in probe.http.get("/redis/client-list").text
        with serving(valkey_standalone.target()) as probe:
            assert not probe.get("/redis/status")["connected"]
    finally:
        provider._token_mgr.stop()
        signed = signed_in(valkey_standalone.target(), provider)
        ask_as(signed, "ACL", "SETUSER", "default", "on")
        ask(node, None, "ACL", "DELUSER", OBJECT_ID)
        provider._token_mgr.stop()


def ask_as(target: Target, *words: str) -> None:
    from understudy.valkey.wire import Wire

    with Wire(target.seeds[0], target) as wire:
        wire.call(*words)


def test_a_token_goes_over_tls_only() -> None:
    with pytest.raises(UsageError, match="no TLS"):
        credentials_for(Target.from_url("redis://cache.example:10000"))


def test_the_identity_is_found_as_azures_tools_find_it_and_its_absence_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target.from_url("rediss://cache.example:10000")
    provider = credentials_for(target)
    assert isinstance(provider, EntraIdCredentialsProvider)

    class Nobody(Identity):
        def request_token(self, force_refresh: bool = False) -> TokenInterface:
            raise RuntimeError("no identity is set up here, and secret-word")

    refused = EntraIdCredentialsProvider(Nobody(), TokenManagerConfig(0.7, 0, 1000, RetryPolicy(1, 1)))
    with pytest.raises(NotAuthorisedError) as problem:
        signed_in(target, refused)
    assert "secret-word" not in str(problem.value)
