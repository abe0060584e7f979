"""Encrypt a set's files with age, and read them again: `F` becomes `F.gz.age`, gzip inside and age outside.

By hand: `age -d -i key F.gz.age | gunzip`. With a passphrase every set has an identity of its own, which lies in
`key.age`, encrypted with the passphrase: `age -d key.age > key`. metadata.json and SHA256SUMS stay plain and speak of
the encrypted files, so that everybody can prove the bytes whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.backup.age import decrypt_file, encrypt_file, library, opens
from understudy.backup.check import check_sums
from understudy.backup.durable import write_file
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.set import METADATA, SUMS, BackupSet, FileEntry, sums
from understudy.backup.together import Cancellable
from understudy.backup.workers import run_all
from understudy.errors import IntegrityError, RefusedError, UsageError
from understudy.progress import Progress, stage

if TYPE_CHECKING:
    from understudy.settings import Settings

SUFFIX = ".gz.age"
KEY_FILE = "key.age"
_MOST_KEY_BYTES = 1 << 16
_LEAST_PASSPHRASE_BYTES = 8  # NIST SP 800-63B, section 3.1.1, as the least that a person may choose
_HINT = "Set BACKUP_IDENTITY (or --identity) to the file with the secret key, or BACKUP_PASSPHRASE."


@dataclass(frozen=True)
class Lock:
    """Whom sets are encrypted for: age or SSH public keys, a passphrase, or both."""

    recipients: tuple[str, ...] = ()
    passphrase: str | None = field(default=None, repr=False)

    @classmethod
    def from_settings(cls, settings: Settings, *, short: bool = False) -> Lock | None:
        """Return what BACKUP_RECIPIENTS and BACKUP_PASSPHRASE ask for; None: nothing.

        `short` takes a short passphrase as well: whoever restores a set of it cannot choose another one.

        Raises:
            UsageError: a recipient is none, the passphrase is too short, or the extra `understudy[operations]` is not
                installed.
        """
        passphrase = settings.backup_passphrase.get_secret_value() if settings.backup_passphrase else None
        if not settings.backup_recipients and not passphrase:
            return None
        if passphrase and not short and len(passphrase.encode()) < _LEAST_PASSPHRASE_BYTES:
            raise UsageError(
                "reading BACKUP_PASSPHRASE", f"it is shorter than {_LEAST_PASSPHRASE_BYTES} bytes, and soon guessed",
                "Four or more words that nobody would put together. Sets that a shorter one closed still open with it.",
            )  # fmt: skip
        lock = cls(tuple(settings.backup_recipients), passphrase or None)
        lock._parsed()
        return lock

    def _parsed(self) -> list[Any]:
        pyrage = library()
        found = []
        for text in self.recipients:
            try:
                kind = pyrage.ssh if text.startswith("ssh-") else pyrage.x25519
                found.append(kind.Recipient.from_str(text))
            except pyrage.RecipientError as error:
                # whoever mistakes the secret key for the public one should not read it in a log
                shown = "a secret key" if "SECRET" in text.upper() else repr(text[:80])
                raise UsageError(
                    f"reading the recipient {shown}", "it is no public key of age or SSH",
                    "BACKUP_RECIPIENTS takes age1… (age-keygen prints it) or ssh-ed25519 ….",
                ) from error  # fmt: skip
        return found

    @contextlib.contextmanager
    def fresh(self, progress: Progress) -> Iterator[FreshLock]:
        """Give the lock of one set. With a passphrase, its new identity is sealed meanwhile, by another process."""
        recipients = self._parsed()
        over = threading.Event()
        with ThreadPoolExecutor(1) as aside:
            sealed: Future[bytes] | None = None
            if self.passphrase:
                identity = library().x25519.Identity.generate()
                recipients.append(identity.to_public())
                task = {"identity": str(identity), "passphrase": self.passphrase}
                sealed = aside.submit(_seal, task, Cancellable(progress.beside(), over))
            try:
                yield FreshLock(self, tuple(recipients), sealed)
            finally:
                over.set()


def _seal(task: Mapping[str, Any], progress: Progress) -> bytes:
    with stage(progress, "Sealing the key", None, "keys"):
        result = run_all("understudy.backup.tasks.seal:seal", [task], progress.advance)[0]
    return bytes.fromhex(result["sealed"])


@dataclass(frozen=True)
class FreshLock:
    """A lock for one set: the recipients of its files, and the identity that the passphrase opens."""

    lock: Lock
    recipients: tuple[Any, ...]
    sealed: Future[bytes] | None

    def write_sealed(self, folder: Path) -> FileEntry | None:
        """Write `key.age`, where there is a passphrase."""
        if self.sealed is None:
            return None
        data = self.sealed.result()
        write_file(folder / KEY_FILE, data)
        return FileEntry(KEY_FILE, len(data), hashlib.sha256(data).hexdigest())

    def as_data(self) -> dict[str, Any]:
        """Return what the metadata says: nothing that is secret."""
        return {"method": "age", "recipients": [*self.lock.recipients], "passphrase": self.sealed is not None}


@dataclass(frozen=True)
class Key:
    """What opens an encrypted set: a file with secret keys of age or SSH, a passphrase, or both."""

    identity: Path | None = None
    passphrase: str | None = field(default=None, repr=False)

    @classmethod
    def from_settings(cls, settings: Settings) -> Key:
        """Return what BACKUP_IDENTITY and BACKUP_PASSPHRASE give; perhaps nothing."""
        passphrase = settings.backup_passphrase.get_secret_value() if settings.backup_passphrase else None
        return cls(settings.backup_identity, passphrase or None)

    @property
    def given(self) -> bool:
        """Tell whether there is any."""
        return self.identity is not None or self.passphrase is not None

    def identities(self) -> list[Any]:
        """Read the identity file. Raises `RefusedError` where it cannot be read as one."""
        if self.identity is None:
            return []
        pyrage = library()
        try:
            with self.identity.expanduser().open("rb") as file:
                data = file.read(_MOST_KEY_BYTES)
            if b"-----BEGIN" in data:
                return [pyrage.ssh.Identity.from_buffer(data)]
            lines = [line.strip() for line in data.decode().splitlines()]
            found = [pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
        except OSError as error:
            raise RefusedError(f"reading the key in {self.identity}", error.strerror or str(error), _HINT) from error
        except (UnicodeDecodeError, pyrage.IdentityError) as error:
            raise RefusedError(
                f"reading the key in {self.identity}", "it holds no secret key of age or SSH that needs no password",
                "It is the file that age-keygen writes: lines that begin with AGE-SECRET-KEY-1.",
            ) from error  # fmt: skip
        return found


def encrypt(staged: Path, files: Sequence[FileEntry], lock: FreshLock, progress: Progress) -> tuple[FileEntry, ...]:
    """Replace each file of `staged` by its encrypted form; return what is there now, durably."""
    with stage(progress, "Encrypting", sum(entry.size for entry in files), "bytes"):
        return tuple(_encrypt_one(staged, entry, lock, progress) for entry in files)


def _encrypt_one(staged: Path, entry: FileEntry, lock: FreshLock, progress: Progress) -> FileEntry:
    plain = staged / entry.path
    size, sha256 = encrypt_file(plain, plain.with_name(plain.name + SUFFIX), lock.recipients, progress)
    plain.unlink()
    return FileEntry(entry.path + SUFFIX, size, sha256, entry.keys, entry.size)


@contextlib.contextmanager
def unlocked(backup: BackupSet, key: Key, local: LocalRepository, progress: Progress) -> Iterator[BackupSet]:
    """Give a set with plain files: itself, or its decrypted copy beside the local sets, removed afterwards.

    Raises:
        IntegrityError: it is damaged.
        RefusedError: the key is missing or another one, or there is not enough room.
    """
    if backup.metadata.encryption is None:
        yield backup
        return
    check_sums(backup, progress)
    identities = _fitting(backup, key, progress)
    with local.scratch("decrypt") as place:
        into = place / "set"
        into.mkdir(mode=0o700)
        needed, room = backup.metadata.plain_size, shutil.disk_usage(into).free
        if needed > room:
            raise RefusedError(
                f"decrypting {backup.metadata.id}", f"it needs {needed:,} bytes, and {room:,} are free in {into}",
                "Free some space, or name another directory with --out-dir (BACKUP_DIR).",
            )  # fmt: skip
        with stage(progress, "Decrypting", needed, "bytes"):
            files = tuple(
                _decrypt_one(backup, entry, into, identities, progress)
                for entry in backup.metadata.files
                if entry.plain_size is not None
            )
        text = sums(files)
        (into / SUMS).write_bytes(text)
        listed = (*files, FileEntry(SUMS, len(text), hashlib.sha256(text).hexdigest()))
        metadata = backup.metadata.decrypted(listed)
        (into / METADATA).write_bytes(metadata.encode())
        yield BackupSet(into, metadata)


def _fitting(backup: BackupSet, key: Key, progress: Progress) -> list[Any]:
    """Return identities of which one opens the set; the passphrase, which is slow, is tried last."""
    doing = f"decrypting {backup.metadata.id}"
    if not key.given:
        raise RefusedError(doing, "it is encrypted, and no key is given", _HINT)
    first = next((entry for entry in backup.metadata.files if entry.plain_size is not None), None)
    identities = key.identities()
    if first is None or (identities and opens(backup.directory / first.path, identities, first.path)):
        return identities
    sealed = backup.directory / KEY_FILE
    if key.passphrase and sealed.is_file():
        task = {"sealed": sealed.read_bytes()[:_MOST_KEY_BYTES].hex(), "passphrase": key.passphrase}
        with stage(progress, "Opening the key", None, "keys"):
            text = run_all("understudy.backup.tasks.seal:unseal", [task], progress.advance)[0]["identity"]
        opened = [library().x25519.Identity.from_str(text)]
        if opens(backup.directory / first.path, opened, first.path):
            return opened
        raise IntegrityError(doing, f"{KEY_FILE} is not the key of its files", "Use another set.")
    if key.passphrase and not sealed.is_file() and not identities:
        raise RefusedError(doing, "it is encrypted for recipients, not with a passphrase", _HINT)
    raise RefusedError(doing, "the key is not one of those that it is encrypted for", _HINT)


def _decrypt_one(
    backup: BackupSet, entry: FileEntry, into: Path, identities: Sequence[Any], progress: Progress
) -> FileEntry:
    path, size = entry.path.removesuffix(SUFFIX), entry.plain_size or 0
    (into / path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    sha256 = decrypt_file(backup.directory / entry.path, into / path, size, identities, progress, entry.path)
    return FileEntry(path, size, sha256, entry.keys)
