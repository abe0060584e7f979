"""Entry tokens: JWTs signed with Ed25519, the same for the same entry, verifiable by anybody with the public key.

Source: RFC 7519, RFC 8037; one algorithm only, as RFC 8725 says.
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

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import OKPAlgorithm
from jwt.types import Options

from understudy.errors import RefusedError, UnreachableError, UsageError
from understudy.waitingroom.values import Entered

ISSUER = "understudy-waitingroom"
_ALGORITHM = "EdDSA"
_OPTIONS: Options = {
    "require": ["iss", "aud", "jti", "exp"],
    "verify_aud": False,
    "verify_exp": False,
    "verify_iat": False,
}
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
        public = OKPAlgorithm.to_jwk(self._public, as_dict=True)
        x = public["x"]
        thumbprint = hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest()  # RFC 7638
        self.key_id = base64.urlsafe_b64encode(thumbprint).decode().rstrip("=")
        self._jwk = {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.key_id, "alg": _ALGORITHM, "use": "sig"}
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
        return jwt.encode(claims, self._key, _ALGORITHM, {"kid": self.key_id})

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
        if len(token) > _LONGEST:
            return None
        try:
            # whose event it is for, and whether it is over by the server's clock, is asked where that is known
            said = jwt.decode(token, self._public, [_ALGORITHM], issuer=ISSUER, options=_OPTIONS)
        except jwt.InvalidTokenError:
            return None
        return Claims(said["aud"], said["jti"], said["exp"])


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
        if not is_private(path.stat(), os.geteuid()):
            raise RefusedError(doing, "others than its owner may read or write it", f"chmod 600 {path}")
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise UnreachableError(doing, error.strerror or str(error)) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(doing, "it is no unencrypted private key in PEM", _HOW) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(doing, "it is a key of another kind than Ed25519", _HOW)
    return key


def is_private(about: os.stat_result, us: int) -> bool:
    """Return whether a key is for our eyes only; one of root's may be lent to our group, as Kubernetes mounts secrets.

    Source: PostgreSQL's rule for `ssl_key_file`.
    """
    lent = stat.S_IRGRP if about.st_uid == 0 != us else 0
    return not about.st_mode & _OTHERS & ~lent


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
