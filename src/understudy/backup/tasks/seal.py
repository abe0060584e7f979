"""Task: seal an identity with a passphrase, or open it. scrypt takes seconds, and nothing can interrupt it.

`seal`: `identity`, `passphrase` to `sealed` (hex). `unseal`: `sealed`, `passphrase` to `identity`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from understudy.errors import RefusedError


def seal(plan: Mapping[str, Any], _: Callable[[int], None]) -> dict[str, Any]:
    """Encrypt the identity with the passphrase, as an identity file of age."""
    import pyrage  # noqa: PLC0415 - an extra

    sealed: bytes = pyrage.passphrase.encrypt(f"{plan['identity']}\n".encode(), plan["passphrase"])
    return {"sealed": sealed.hex()}


def unseal(plan: Mapping[str, Any], _: Callable[[int], None]) -> dict[str, Any]:
    """Decrypt what `seal` made. Raises `RefusedError` for another passphrase."""
    import pyrage  # noqa: PLC0415

    try:
        text: bytes = pyrage.passphrase.decrypt(bytes.fromhex(plan["sealed"]), plan["passphrase"])
    except pyrage.DecryptError as error:
        raise RefusedError(
            "opening the set's key", "the passphrase is not the one that it was encrypted with",
            "Check BACKUP_PASSPHRASE.",
        ) from error  # fmt: skip
    return {"identity": text.decode().strip()}
