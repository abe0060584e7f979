"""A passphrase closes and opens a set's key on a busy machine, too, where the library misjudges how fast it is."""

from __future__ import annotations

from typing import Any

import pyrage
import pytest

from understudy.backup.tasks import seal
from understudy.errors import RefusedError

PASSPHRASE = "planted correct horse"
_decrypt = pyrage.passphrase.decrypt


@pytest.fixture(scope="module")
def sealed() -> str:
    return str(seal.seal({"identity": "AGE-SECRET-KEY-1", "passphrase": PASSPHRASE}, lambda _: None)["sealed"])


def unsealed(sealed: str, passphrase: str = PASSPHRASE) -> Any:
    return seal.unseal({"sealed": sealed, "passphrase": passphrase}, lambda _: None)["identity"]


def with_work(sealed: bytes, work: int) -> bytes:
    return sealed.replace(f" {seal._work(sealed)}\n".encode(), f" {work}\n".encode(), 1)


def test_what_was_refused_as_too_much_work_is_tried_again(sealed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = [0, 0, 0]

    def misjudging(data: bytes, passphrase: str) -> bytes:
        if refusals:
            refusals.pop()
            data = with_work(data, 40)
        return _decrypt(data, passphrase)

    monkeypatch.setattr(pyrage.passphrase, "decrypt", misjudging)
    monkeypatch.setattr(seal, "_APART_S", 0.01)
    assert unsealed(sealed) == "AGE-SECRET-KEY-1"
    assert not refusals


def test_a_machine_that_is_too_slow_is_not_told_as_a_wrong_passphrase(
    sealed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seal, "_APART_S", 0.01)
    monkeypatch.setattr(seal, "_OPENINGS", 3)
    with pytest.raises(RefusedError, match="too slow for it, or too busy"):
        unsealed(with_work(bytes.fromhex(sealed), 40).hex())
    with pytest.raises(RefusedError, match="not the one"):
        unsealed(sealed, "planted incorrect horse")


def test_the_strongest_of_a_few_is_kept_where_the_first_is_weak(monkeypatch: pytest.MonkeyPatch) -> None:
    works = iter([12, 17, 13, 19])
    monkeypatch.setattr(pyrage.passphrase, "encrypt", lambda data, _: f"age\n-> scrypt SALT {next(works)}\n".encode())
    task = {"identity": "AGE-SECRET-KEY-1", "passphrase": PASSPHRASE}
    assert seal._work(bytes.fromhex(seal.seal(task, lambda _: None)["sealed"])) == 17
    assert seal._work(bytes.fromhex(seal.seal(task, lambda _: None)["sealed"])) == 19
