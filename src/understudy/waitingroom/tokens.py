"""Entry tokens: JWTs signed with Ed25519, the same for the same entry, verifiable by anybody with the public key.

The header of every token of ours is the same bytes. One with another (another algorithm, another key) is none of ours,
and is refused before anything in it is read. Sources: RFC 7519, RFC 8037, RFC 8725.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import stat
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from understudy.errors import RefusedError, UnreachableError, UsageError
from understudy.waitingroom.values import Entered

ISSUER = "understudy-waitingroom"
_MOST_KNOWN = 20_000
_LONGEST = 2048
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Claims:
    """Who is inside, as a token says it."""

    event_id: str
    token_id: str
    expires_s: int


class Signer:
    """Signs entries and verifies tokens with one key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._public = key.public_key()
        x = _packed(self._public.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
        thumbprint = hashlib.sha256(b'{"crv":"Ed25519","kty":"OKP","x":"%b"}' % x.encode()).digest()  # RFC 7638
        self.key_id = _packed(thumbprint).decode()
        self._jwk = {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.key_id, "alg": "EdDSA", "use": "sig"}
        self._head = _packed(orjson.dumps({"alg": "EdDSA", "typ": "JWT", "kid": self.key_id})) + b"."
        self._known: OrderedDict[str, Claims] = OrderedDict()

    def jwks(self) -> dict[str, Any]:
        """Return the public key as a JSON Web Key Set."""
        return {"keys": [self._jwk]}

    def sign(self, entered: Entered) -> str:
        """Return the token of an entry."""
        claims = {
            "iss": ISSUER, "sub": entered.user_id, "aud": entered.event_id, "jti": entered.token_id,
            "iat": entered.issued_ms // 1000, "exp": -(-entered.expires_ms // 1000),
        }  # fmt: skip
        signed = self._head + _packed(orjson.dumps(claims))
        return (signed + b"." + _packed(self._key.sign(signed))).decode()

    def verify(self, token: str) -> Claims | None:
        """Return what a token says, or None where it is none of ours or was changed; it may have expired."""
        claims = self._known.get(token)
        if claims is None:
            claims = self._read(token)
            if claims is None:
                return None
            self._known[token] = claims  # a signature costs more than all the rest of a request
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        return claims

    def _read(self, token: str) -> Claims | None:
        raw = token[: _LONGEST + 1].encode("latin-1", "replace")
        if len(raw) > _LONGEST or not raw.startswith(self._head):
            return None
        signed, _, signature = raw.rpartition(b".")
        try:
            self._public.verify(_unpacked(signature), signed)
            said = orjson.loads(_unpacked(signed[len(self._head) :]))
            if said["iss"] != ISSUER:
                return None
            return Claims(said["aud"], said["jti"], said["exp"])
        except (InvalidSignature, ValueError, KeyError, TypeError):
            return None


def passing_key() -> Ed25519PrivateKey:
    """Return a key that lives as long as this process."""
    return Ed25519PrivateKey.generate()


def key_from(path: Path) -> Ed25519PrivateKey:
    """Return the key in a PEM file, which is made where it does not exist.

    Raises:
        RefusedError: others can read it.
        UnreachableError: it cannot be read or written.
        UsageError: it is no Ed25519 key.
    """
    doing = f"reading the signing key {path}"
    try:
        if not path.exists():
            _make(path)
        if path.stat().st_mode & _OTHERS:
            raise RefusedError(doing, "others than its owner may read or write it", f"chmod 600 {path}")
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise UnreachableError(doing, error.strerror or str(error)) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(doing, "it is no unencrypted private key in PEM", _HOW) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(doing, "it is a key of another kind than Ed25519", _HOW)
    return key


_HOW = "Make one: openssl genpkey -algorithm ed25519; or name a file that does not exist, and it is made."


def _make(path: Path) -> None:
    """Write a new key. Of several that do so at once, all end with the same."""
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(passing_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(scratch, path)
        except FileExistsError:
            return
    finally:
        scratch.unlink(missing_ok=True)


def _packed(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _unpacked(data: bytes) -> bytes:
    # bits that decoding would pass over make another text of the same token
    decoded = base64.b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True)
    if _packed(decoded) != data:
        raise ValueError("not canonical")
    return decoded
