"""Task: seal an identity with a passphrase, or open it. scrypt takes seconds, and nothing can interrupt it.

`seal`: `identity`, `passphrase` to `sealed` (hex). `unseal`: `sealed`, `passphrase` to `identity`.

The library guesses how fast this machine is by a millisecond of scrypt, and chooses by it how much work a passphrase is
to cost, and how much it is willing to do (16 times its guess). Where another program had the processor in that very
millisecond the guess is far too low: then it closes too lightly, or refuses to open what it closed itself. So both
guess again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from understudy.errors import RefusedError

_LEAST_WORK = 18  # log2 of scrypt's N; what the program age chooses
_SEALINGS = 3
_OPENINGS, _APART_S = 40, 0.25
_TOO_MUCH_WORK = "Excessive work parameter"


def seal(plan: Mapping[str, Any], _: Callable[[int], None]) -> dict[str, Any]:
    """Encrypt the identity with the passphrase, as an identity file of age."""
    import pyrage  # noqa: PLC0415 - an extra

    sealed: list[bytes] = []
    while len(sealed) < _SEALINGS and (not sealed or _work(sealed[-1]) < _LEAST_WORK):
        sealed.append(pyrage.passphrase.encrypt(f"{plan['identity']}\n".encode(), plan["passphrase"]))
    return {"sealed": max(sealed, key=_work).hex()}


def _work(sealed: bytes) -> int:
    """Return log2 of scrypt's N, which ends the second line: `-> scrypt SALT 18`."""
    return int(sealed.split(b"\n", 2)[1].rsplit(b" ", 1)[1])


def unseal(plan: Mapping[str, Any], _: Callable[[int], None]) -> dict[str, Any]:
    """Decrypt what `seal` made.

    Raises:
        RefusedError: another passphrase, or this machine is too busy to say.
    """
    import pyrage  # noqa: PLC0415

    sealed = bytes.fromhex(plan["sealed"])
    for _attempt in range(_OPENINGS):
        try:
            text: bytes = pyrage.passphrase.decrypt(sealed, plan["passphrase"])
        except pyrage.DecryptError as error:
            if _TOO_MUCH_WORK not in str(error):
                raise RefusedError(
                    "opening the set's key", "the passphrase is not the one that it was encrypted with",
                    "Check BACKUP_PASSPHRASE.",
                ) from error  # fmt: skip
            time.sleep(_APART_S)
        else:
            return {"identity": text.decode().strip()}
    raise RefusedError(
        "opening the set's key", "this machine is too slow for it, or too busy: it was closed on a much faster one",
        "Again when it is idle; or elsewhere `age -d key.age > key`, and BACKUP_IDENTITY=key here.",
    )  # fmt: skip
