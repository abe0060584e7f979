"""Entry tokens: the same for the same entry, verifiable by anybody, and nobody else's."""

from __future__ import annotations

import base64
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from understudy.errors import RefusedError, UsageError
from understudy.waitingroom.tokens import ISSUER, Signer, is_private, key_from, passing_key
from understudy.waitingroom.values import Entered
from waitingroom.conftest import Served

ENTERED = Entered("concert", "ann", "x" * 22, 1_700_000_000_123, 1_700_000_600_123)


def test_a_token_is_the_same_however_often_and_at_once_it_is_asked_for(served: Served) -> None:
    event = served.event(rate_per_s=1000)
    ticket = served.join(event, "ann")["ticket"]
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda _: served.post("/api/v1/queue/enter", {"ticket": ticket}), range(16)))
    assert len({one["token"] for one in given}) == len({one["expires_at"] for one in given}) == 1
    assert served.administer("GET", f"/{event}")["counts"]["entered"] == 1


def test_anybody_can_verify_a_token_with_the_published_key(served: Served) -> None:
    event = served.event(rate_per_s=1000)
    ticket = served.join(event, "ann")["ticket"]
    entered = served.post("/api/v1/queue/enter", {"ticket": ticket})
    published = jwt.PyJWKSet.from_dict(served.get("/.well-known/jwks.json"))
    head = jwt.get_unverified_header(entered["token"])
    said = jwt.decode(
        entered["token"], published[head["kid"]], algorithms=["EdDSA"], audience=event, issuer=ISSUER,
        options={"require": ["exp", "iat", "aud", "iss", "sub", "jti"]},
    )  # fmt: skip
    assert said["sub"] == "ann" and said["exp"] - said["iat"] in (600, 601)
    assert ticket not in entered["token"] and said["jti"] not in ticket  # the sale never learns the ticket


def test_what_was_changed_or_signed_by_others_is_not_taken() -> None:
    ours, other = Signer(passing_key()), Signer(passing_key())
    token = ours.sign(ENTERED)
    assert ours.sign(ENTERED) == token
    claims = ours.verify(token)
    assert claims and (claims.event_id, claims.token_id, claims.expires_s) == ("concert", "x" * 22, 1_700_000_601)
    head, body, signature = token.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    for wrong in (
        other.sign(ENTERED), f"{head}.{body}.", f"{none}.{body}.", f"{none}.{body}.{signature}", f"{head}.{body}",
        f"{head}.{body[:-2]}AA.{signature}", f"{head}.{body}.{signature}=", f" {token}", "", ".", "..", token * 20,
        f"{head}.{body}.{signature[:-1]}{'B' if signature[-1] == 'A' else chr(ord(signature[-1]) + 1)}",
    ):  # fmt: skip
        assert ours.verify(wrong) is None


def test_a_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "tokens.pem"
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: Signer(key_from(path)).key_id, range(8)))
    assert len(set(keys)) == 1 and [one.name for one in tmp_path.iterdir()] == ["tokens.pem"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Signer(key_from(path)).sign(ENTERED) == Signer(key_from(path)).sign(ENTERED)


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens.pem"
    key_from(path)
    path.chmod(0o640)
    with pytest.raises(RefusedError, match="others"):
        key_from(path)


@pytest.mark.parametrize(
    ("mode", "owner", "us", "private"),
    [
        (0o600, 10001, 10001, True),
        (0o640, 10001, 10001, False),
        (0o440, 0, 10001, True),  # a secret that Kubernetes mounts for a pod with an fsGroup
        (0o440, 0, 0, False),
        (0o460, 0, 10001, False),
        (0o444, 0, 10001, False),
    ],
)
def test_a_key_of_root_may_be_lent_to_our_group(mode: int, owner: int, us: int, private: bool) -> None:
    about = os.stat_result((stat.S_IFREG | mode, 0, 0, 1, owner, 10001, 0, 0, 0, 0))
    assert is_private(about, us) is private


@pytest.mark.parametrize("kind", ["text", "another kind", "encrypted"])
def test_a_file_that_is_no_such_key_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "tokens.pem"
    pem = (Encoding.PEM, PrivateFormat.PKCS8)
    if kind == "text":
        path.write_bytes(b"no key")
    elif kind == "another kind":
        path.write_bytes(generate_private_key(SECP256R1()).private_bytes(*pem, NoEncryption()))
    else:
        from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

        path.write_bytes(Ed25519PrivateKey.generate().private_bytes(*pem, BestAvailableEncryption(b"secret")))
    path.chmod(0o600)
    with pytest.raises(UsageError):
        key_from(path)
