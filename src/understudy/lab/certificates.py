"""A certificate authority of a lab's own, and the certificate that its servers show."""

from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path
from typing import NamedTuple

from understudy import installed
from understudy.errors import NotFoundError

_VALID_FOR = datetime.timedelta(days=365)
_EARLIER = datetime.timedelta(hours=1)  # so that a clock that is a little behind finds it valid


class Files(NamedTuple):
    """Where the certificates of a lab are: PEM files."""

    authority: Path
    certificate: Path
    key: Path


def files_in(lab: Path) -> Files:
    """Return where a lab's certificates are, or would be."""
    return Files(lab / "tls" / "ca.crt", lab / "tls" / "server.crt", lab / "tls" / "server.key")


def make(lab: Path) -> Files:
    """Make a CA and a certificate for localhost, 127.0.0.1 and ::1, unless the lab has them.

    The key of the CA is not kept: nobody can sign anything else with it.

    Raises:
        NotFoundError: `cryptography` is not installed.
    """
    files = files_in(lab)
    if all(file.exists() for file in files):
        return files
    try:
        from cryptography import x509  # noqa: PLC0415 - an optional dependency, and slow to import
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: PLC0415
    except ImportError:
        raise NotFoundError(
            "making certificates", "`cryptography` is not installed", f"{installed.how_to_add('lab')}."
        ) from None
    now = datetime.datetime.now(datetime.UTC)

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    def draft(subject: str, key: ec.EllipticCurvePrivateKey, *, authority: bool) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named("Understudy lab CA"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _EARLIER)
            .not_valid_after(now + _VALID_FOR)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    key_cert_sign=authority,
                    crl_sign=authority,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        )

    ca_key = ec.generate_private_key(ec.SECP256R1())
    server_key = ec.generate_private_key(ec.SECP256R1())
    places = [x509.IPAddress(ipaddress.ip_address(ip)) for ip in ("127.0.0.1", "::1")]
    authority = draft("Understudy lab CA", ca_key, authority=True).sign(ca_key, hashes.SHA256())
    certificate = (
        draft("localhost", server_key, authority=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), *places]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    files.authority.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(files.authority, authority.public_bytes(pem))
    _write(files.certificate, certificate.public_bytes(pem))
    _write(
        files.key,
        server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    return files


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
