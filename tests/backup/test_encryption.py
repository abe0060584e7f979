"""Encrypted sets: opened by every key that they are for and by no other, provably whole without one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyrage
import pytest

from conftest import Typed
from s3 import BUCKET, S3Server
from stack import SUBJECTS, Subject
from support import started
from understudy.backup.check import check, check_sums
from understudy.backup.component import Component, RestoreOptions, Taken
from understudy.backup.components.redis import RedisComponent
from understudy.backup.encryption import KEY_FILE, Key, Lock, unlocked
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.restore import bring_back, opened
from understudy.backup.set import METADATA, SUMS, BackupSet, FileEntry, Metadata, sums
from understudy.backup.take import take
from understudy.errors import IntegrityError, NotFoundError, RefusedError, UsageError
from understudy.lab import Lab
from understudy.lab.sample import fill, wipe
from understudy.progress import Progress, Silent
from understudy.valkey.router import Router

PASSPHRASE = "planted correct horse"


@dataclass(frozen=True)
class Pair:
    """A secret key in a file, and its public one."""

    file: Path
    public: str


def pair(folder: Path, name: str = "key") -> Pair:
    identity = pyrage.x25519.Identity.generate()
    file = folder / name
    file.write_text(f"# created by a test\n# public key: {identity.to_public()}\n{identity}\n")
    return Pair(file, str(identity.to_public()))


@pytest.fixture
def mine(tmp_path: Path) -> Pair:
    return pair(tmp_path)


@pytest.fixture
def filled(valkey_standalone: Lab) -> Iterator[Lab]:
    with Router(valkey_standalone.target()) as router:
        fill(router, 250)
    yield valkey_standalone


def taken(lab: Lab, folder: Path, lock: Lock) -> BackupSet:
    with contextlib.closing(RedisComponent(lab.target())) as component:
        return take([component], LocalRepository(folder), None, "local", Silent(), lock=lock).backup


def restored(lab: Lab, backup: BackupSet, key: Key, folder: Path) -> int:
    with (
        contextlib.closing(RedisComponent(lab.target())) as component,
        unlocked(backup, key, LocalRepository(folder), Silent()) as plain,
    ):
        return bring_back(plain, [component], RestoreOptions(), Silent()).reports["redis"].restored


def test_a_stack_is_encrypted_destroyed_restored_and_equal(
    request: pytest.FixtureRequest, tmp_path: Path, mine: Pair
) -> None:
    subjects: list[Subject] = [request.getfixturevalue(f"{name}_subject") for name in SUBJECTS]
    local = LocalRepository(tmp_path / "sets")
    with contextlib.ExitStack() as stack:
        components: list[Component] = []
        for subject in subjects:
            subject.fill()
            components.append(stack.enter_context(contextlib.closing(subject.component())))
        backup = take(components, local, None, "local", Silent(), lock=Lock((mine.public,))).backup
        for entry in backup.metadata.files:
            assert entry.path.endswith(".gz.age") or entry.path == SUMS
        everything = b"".join(path.read_bytes() for path in local.directory.rglob("*") if path.is_file())
        for word in (b"user:", b"CREATE ROLE", b"PGDMP", b"context items\x00"):
            assert word not in everything
        for subject in subjects:
            subject.destroy()
        shutil.rmtree(backup.directory)  # only the archive is left
        with (
            opened("latest", local, None, Silent()) as stored,
            unlocked(stored, Key(mine.file), local, Silent()) as plain,
        ):
            assert check(plain, Silent()) == plain.metadata.keys
            bring_back(plain, components, RestoreOptions(), Silent()).raise_failure("it")
            assert [component.compare(plain, Silent()).differences for component in components] == [(), (), ()]
        assert not list(local.directory.glob(".partial-*"))


def test_a_set_is_opened_by_each_of_its_keys_and_by_no_other(filled: Lab, tmp_path: Path, mine: Pair) -> None:
    second, stranger = pair(tmp_path, "second"), pair(tmp_path, "stranger")
    backup = taken(filled, tmp_path / "sets", Lock((mine.public, second.public), PASSPHRASE))
    assert backup.metadata.encryption == {
        "method": "age", "recipients": [mine.public, second.public], "passphrase": True,
    }  # fmt: skip
    assert backup.metadata.keys == 258
    for key in (Key(mine.file), Key(second.file), Key(stranger.file, PASSPHRASE)):
        with Router(filled.target()) as router:
            wipe(router)
        assert restored(filled, backup, key, tmp_path / "sets") == 258
    for wrong in (Key(stranger.file), Key(None, "another"), Key()):
        with pytest.raises(RefusedError) as refused:
            restored(filled, backup, wrong, tmp_path / "sets")
        assert refused.value.exit_code == 14
        assert "BACKUP_" in refused.value.hint
    for name in ("absent", "garbage"):
        (tmp_path / "garbage").write_bytes(b"\xff\x00 no key")
        with pytest.raises(RefusedError, match="reading the key"):
            Key(tmp_path / name).identities()


def test_a_set_without_a_passphrase_is_not_opened_by_one(filled: Lab, tmp_path: Path, mine: Pair) -> None:
    backup = taken(filled, tmp_path / "sets", Lock((mine.public,)))
    assert not (backup.directory / KEY_FILE).exists()
    with pytest.raises(RefusedError, match="encrypted for recipients"):
        restored(filled, backup, Key(None, PASSPHRASE), tmp_path / "sets")


def test_nobody_reads_keys_of_an_encrypted_set_by_mistake(filled: Lab, tmp_path: Path, mine: Pair) -> None:
    backup = taken(filled, tmp_path / "sets", Lock((mine.public,)))
    assert b'"version": 2' in (backup.directory / METADATA).read_bytes()
    with pytest.raises(RefusedError, match="it is encrypted"):
        backup.parts()
    with contextlib.closing(RedisComponent(filled.target())) as component, pytest.raises(RefusedError):
        bring_back(backup, [component], RestoreOptions(), Silent())


def test_every_damage_is_found_without_the_key(filled: Lab, tmp_path: Path, mine: Pair) -> None:
    backup = taken(filled, tmp_path / "sets", Lock((mine.public,)))
    other = taken(filled, tmp_path / "sets", Lock((mine.public,)))
    check_sums(backup, Silent())
    for entry in backup.metadata.files:
        for damage in ("missing", "truncated", "flipped", "another's"):
            place = tmp_path / "damaged"
            shutil.copytree(backup.directory, place)
            data = bytearray((place / entry.path).read_bytes())
            if damage == "missing":
                (place / entry.path).unlink()
            elif damage == "another's":
                shutil.copy(other.directory / entry.path, place / entry.path)
            else:
                data[len(data) // 2] ^= 4
                (place / entry.path).write_bytes(data[:-1] if damage == "truncated" else data)
            with pytest.raises(IntegrityError, match=entry.path):
                check_sums(BackupSet.open(place), Silent())
            with pytest.raises(IntegrityError):
                restored(filled, BackupSet.open(place), Key(mine.file), tmp_path / "sets")
            shutil.rmtree(place)


def resealed(backup: BackupSet, place: Path, path: str, data: bytes, plain_size: int) -> BackupSet:
    """The same set with another file, and metadata that fits it: what only a malicious hand makes."""
    shutil.copytree(backup.directory, place)
    (place / path).write_bytes(data)
    files = tuple(
        FileEntry(path, len(data), hashlib.sha256(data).hexdigest(), entry.keys, plain_size)
        if entry.path == path else entry
        for entry in backup.metadata.files if entry.path != SUMS
    )  # fmt: skip
    text = sums(files)
    (place / SUMS).write_bytes(text)
    listed = (*files, FileEntry(SUMS, len(text), hashlib.sha256(text).hexdigest()))
    (place / METADATA).write_bytes(backup.metadata.with_files(listed).encode())
    return BackupSet.open(place)


def test_a_bomb_and_a_forged_file_are_refused(filled: Lab, tmp_path: Path, mine: Pair) -> None:
    import gzip

    backup = taken(filled, tmp_path / "sets", Lock((mine.public,)))
    first = next(entry for entry in backup.metadata.files if entry.keys is not None)
    recipient = [pyrage.x25519.Recipient.from_str(mine.public)]
    bomb = pyrage.encrypt(gzip.compress(bytes(50 << 20)), recipient)
    cases = {
        "bomb": (bomb, first.plain_size or 0),
        "cut": ((backup.directory / first.path).read_bytes()[:-20], first.plain_size or 0),
        "no-gzip": (pyrage.encrypt(b"hello", recipient), 5),
        "two-members": (pyrage.encrypt(gzip.compress(b"a") + gzip.compress(b"b"), recipient), 1),
        "no-age": (b"hello", 5),
    }
    for name, (data, plain_size) in cases.items():
        forged = resealed(backup, tmp_path / name, first.path, data, plain_size)
        check_sums(forged, Silent())
        with pytest.raises(IntegrityError, match="decrypting"):
            restored(filled, forged, Key(mine.file), tmp_path / "sets")
        assert not list((tmp_path / "sets").glob(".partial-*"))
    huge = resealed(backup, tmp_path / "huge", first.path, (backup.directory / first.path).read_bytes(), 1 << 60)
    with pytest.raises(RefusedError, match="are free"):
        restored(filled, huge, Key(mine.file), tmp_path / "sets")


def test_versions_and_encryption_belong_together(filled: Lab, tmp_path: Path, mine: Pair) -> None:
    metadata = taken(filled, tmp_path / "sets", Lock((mine.public,))).metadata
    import orjson

    document = orjson.loads(metadata.encode())
    for version, keep in ((1, True), (2, False)):
        changed = {**document, "version": version}
        if not keep:
            del changed["encryption"]
        del changed["checksum"]
        changed["checksum"] = hashlib.sha256(orjson.dumps(changed, option=orjson.OPT_SORT_KEYS)).hexdigest()
        with pytest.raises(IntegrityError, match="version 2 is for encrypted sets"):
            Metadata.decode(orjson.dumps(changed), "it")


def test_a_recipient_that_is_none_is_refused_and_a_secret_one_not_repeated() -> None:
    with pytest.raises(UsageError, match="age1nonsense"):
        Lock(("age1nonsense",))._parsed()
    secret = str(pyrage.x25519.Identity.generate())
    with pytest.raises(UsageError) as refused:
        Lock((secret,))._parsed()
    assert secret not in str(refused.value)
    assert PASSPHRASE not in repr(Lock((), PASSPHRASE)) + repr(Key(None, PASSPHRASE))


def test_by_hand_with_age(filled: Lab, tmp_path: Path, mine: Pair) -> None:
    if not shutil.which("age"):
        pytest.skip("the program age is not installed")
    backup = taken(filled, tmp_path / "sets", Lock((mine.public,)))
    done = subprocess.run(["sha256sum", "-c", SUMS], cwd=backup.directory, capture_output=True, check=False)
    assert done.returncode == 0
    first = next(entry for entry in backup.metadata.files if entry.keys is not None)
    words = f"age -d -i '{mine.file}' '{backup.directory / first.path}' | gunzip"
    plain = subprocess.run(["/bin/sh", "-c", words], capture_output=True, check=True).stdout
    assert len(plain) == first.plain_size
    assert plain.count(b"\n") == first.keys


def test_the_commands_with_an_encrypted_set(
    typed: Typed, filled: Lab, tmp_path: Path, mine: Pair, s3_env: S3Server
) -> None:
    uri = f"s3://{BUCKET}/encrypted"
    env = {**filled.env(), "BACKUP_DIR": str(tmp_path / "sets"), "BACKUP_RECIPIENTS": mine.public, "S3_URI": uri}
    done = typed("backup", env=env)
    assert done.returncode == 0, done.stderr
    assert "Encrypted with age for 1 recipient" in done.stdout
    assert '"encrypted": true' in typed("list", "--json", env=env).stdout
    without = typed("check", "latest", env=env)
    assert without.returncode == 0
    assert "no record was read" in without.stdout
    with_key = typed("check", "--identity", str(mine.file), "latest", env=env)
    assert with_key.returncode == 0
    assert "no record" not in with_key.stdout
    refused = typed("restore", "latest", env=env)
    assert refused.returncode == 14
    assert "BACKUP_IDENTITY" in refused.stderr
    with Router(filled.target()) as router:
        wipe(router)
    back = typed("restore", "--from-s3", "latest", "--identity", str(mine.file), env=env)
    assert "restored=258" in back.stdout, back.stderr
    verified = typed("verify", "--full", env={**env, "BACKUP_IDENTITY": str(mine.file)})
    assert verified.returncode == 0, verified.stdout + verified.stderr
    again = typed("upload", "latest", env=env)
    assert again.returncode == 0, again.stderr


def test_a_passphrase_from_the_environment_is_seen_nowhere(typed: Typed, filled: Lab, tmp_path: Path) -> None:
    env = {**filled.env(), "BACKUP_DIR": str(tmp_path / "sets"), "BACKUP_PASSPHRASE": PASSPHRASE}
    process = started("backup", env=env)
    seen = set()
    while process.poll() is None:
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                seen.add(PASSPHRASE.encode() in place.read_bytes())
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)  # what is looked for stands there as long as a process lives
    said = process.communicate()
    assert process.returncode == 0, said
    assert seen == {False}
    everything = b"".join(path.read_bytes() for path in (tmp_path / "sets").rglob("*") if path.is_file())
    assert PASSPHRASE.encode() not in everything + "".join(said).encode()
    assert b"AGE-SECRET-KEY" not in everything
    with Router(filled.target()) as router:
        wipe(router)
    assert "restored=258" in typed("restore", "latest", env=env).stdout
    for path in (tmp_path / "sets").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


class _Stuck:
    """A component that ends the work when its file is half encrypted."""

    name = title = "redis"

    def connect(self) -> None: ...

    def take(self, work: Path, into: Path, progress: Progress) -> Taken:
        (into / "redis").mkdir()
        data = os.urandom(8 << 20)
        (into / "redis" / "data").write_bytes(data)
        return Taken((), (FileEntry("redis/data", len(data), hashlib.sha256(data).hexdigest()),), {})


class _EndsWhileEncrypting(Silent):
    def begin(self, what: str, total: int | None, unit: str) -> None:
        self.what = what

    def advance(self, amount: int) -> None:
        if self.what == "Encrypting" and amount:
            raise KeyboardInterrupt

    def beside(self) -> Progress:
        return self


def test_an_interruption_while_encrypting_leaves_nothing(tmp_path: Path, mine: Pair) -> None:
    with pytest.raises(KeyboardInterrupt):
        take(
            [_Stuck()],  # type: ignore[list-item]
            LocalRepository(tmp_path / "sets"), None, "local", _EndsWhileEncrypting(), lock=Lock((mine.public,)),
        )  # fmt: skip
    assert [path.name for path in (tmp_path / "sets").iterdir()] == [".lock"]
    with pytest.raises(NotFoundError), opened("latest", LocalRepository(tmp_path / "sets"), None, Silent()):
        pass


def test_a_passphrase_that_is_soon_guessed_closes_no_new_set_and_still_opens_an_old_one(
    typed: Typed, filled: Lab, tmp_path: Path
) -> None:
    component = RedisComponent(filled.target())
    with contextlib.closing(component):
        take([component], LocalRepository(tmp_path), None, "local", Silent(), lock=Lock(passphrase="x"))
    env = {**filled.env(), "BACKUP_DIR": str(tmp_path), "BACKUP_PASSPHRASE": "x"}
    refused = typed("backup", env=env)
    assert refused.returncode == 2
    assert "BACKUP_PASSPHRASE: it is shorter than 8 bytes" in refused.stderr
    assert len(LocalRepository(tmp_path).sets()) == 1
    assert typed("restore", "--overwrite", "--force", "latest", env=env).returncode == 0
    assert len(LocalRepository(tmp_path).sets()) == 2, "the safety set is no new one: nobody is asked to choose then"
