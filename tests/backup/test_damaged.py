"""Damaged and hostile sets: always a clear refusal, and never a key written from them."""

from __future__ import annotations

import dataclasses
import gzip
import io
import random
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from isal import igzip

from support import backed_up
from understudy.backup.archive import ArchiveWriter, extract
from understudy.backup.check import check
from understudy.backup.component import RestoreOptions
from understudy.backup.components.redis import RedisComponent
from understudy.backup.record import decode
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.restore import opened, restore
from understudy.backup.set import METADATA, BackupSet, FileEntry, Metadata, SetId
from understudy.errors import IntegrityError, NotFoundError, RefusedError, UnderstudyError
from understudy.lab import Lab
from understudy.lab.sample import fill, load_function, wipe
from understudy.progress import Silent
from understudy.valkey.router import Router
from understudy.valkey.target import Target

KEYS = 260


@pytest.fixture(scope="module")
def good(valkey_standalone_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackupSet]:
    """A whole set, of a server that is empty afterwards."""
    target = valkey_standalone_lab.target()
    with Router(target) as router:
        wipe(router)  # another test's keys may be there
        fill(router, KEYS)
        load_function(router)
        backup = backed_up(target, tmp_path_factory.mktemp("good"), chunk_keys=100)
        wipe(router)
    yield backup


def archive_of(backup: BackupSet) -> Path:
    return backup.directory.with_name(f"{backup.directory.name}.tar.gz")


def keys_after_trying(target: Target, name: Path, scratch: Path) -> int:
    """Try to restore what lies there; return how many keys the server has then. Only our errors may come."""
    component = RedisComponent(target)
    local = LocalRepository(scratch / "sets")
    try:
        with opened(str(name), local, None, Silent()) as backup:
            restore(backup, [component], RestoreOptions(), Silent())
    except (IntegrityError, NotFoundError):
        pass
    finally:
        component.close()
    with Router(target) as router:
        found: int = router.wire(target.seeds[0]).call("DBSIZE")
    return found


def flip(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def truncate(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])


def double(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes() + path.read_bytes()[: chance.randrange(1, 2000)])


def overwrite(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    at = chance.randrange(len(data))
    data[at : at + 40] = chance.randbytes(40)
    path.write_bytes(data)


DAMAGES: tuple[Callable[[Path, random.Random], None], ...] = (flip, truncate, double, overwrite)


def fuzz(good: BackupSet, target: Target, folder: Path, rounds: int, seed: int) -> None:
    """Damage a file of the set, or its archive; nothing may be written, unless the bytes came out the same."""
    chance = random.Random(seed)
    for number in range(rounds):
        place = folder / f"round-{number}"
        if chance.random() < 0.5:
            shutil.copytree(good.directory, place / good.directory.name)
            victims = [path for path in (place / good.directory.name).rglob("*") if path.is_file()]
            name = place / good.directory.name
        else:
            place.mkdir()
            victims = [Path(shutil.copy(archive_of(good), place))]
            name = victims[0]
        victim = chance.choice(victims)
        before = victim.read_bytes()
        damage = chance.choice(DAMAGES)
        damage(victim, chance)
        with Router(target) as router:
            wipe(router)
        found = keys_after_trying(target, name, place)
        if found:  # a gzip header holds bits that say nothing, a time for example: then everything must be there
            assert name.suffix == ".gz", f"{damage.__name__} of {victim.name} went unnoticed"
            assert found == KEYS + 8
            unpacked, original = igzip.decompress(victim.read_bytes()), igzip.decompress(before)
            assert unpacked == original, f"{damage.__name__} of the archive went unnoticed"
        shutil.rmtree(place)


def test_no_key_comes_from_a_damaged_set(good: BackupSet, valkey_standalone: Lab, tmp_path: Path) -> None:
    fuzz(good, valkey_standalone.target(), tmp_path, 80, seed=1)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(4))
def test_thousands_of_damaged_sets(good: BackupSet, valkey_standalone: Lab, tmp_path: Path, seed: int) -> None:
    fuzz(good, valkey_standalone.target(), tmp_path, 1000, seed=100 + seed)


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "another's"])
def test_each_damaged_file_is_found_and_named(good: BackupSet, tmp_path: Path, damage: str) -> None:
    for entry in good.metadata.files:
        folder = tmp_path / entry.path.replace("/", "-")
        shutil.copytree(good.directory, folder)
        path = folder / entry.path
        if damage == "missing":
            path.unlink()
        elif damage == "truncated":
            path.write_bytes(path.read_bytes()[:-1])
        elif damage == "flipped":
            flip(path, random.Random(1))
        else:
            path.write_bytes(next((good.directory / e.path).read_bytes() for e in good.metadata.files if e != entry))
        with pytest.raises(IntegrityError) as found:
            check(BackupSet.open(folder), Silent())
        assert found.value.exit_code == 12
        assert any(entry.path in item for item in found.value.items)


def test_a_file_that_does_not_belong_is_found(good: BackupSet, tmp_path: Path) -> None:
    shutil.copytree(good.directory, tmp_path / "set")
    (tmp_path / "set" / "keys" / "keys-part-00099.jsonl").write_text("")
    with pytest.raises(IntegrityError, match=r"keys-part-00099.jsonl: not part of the set"):
        check(BackupSet.open(tmp_path / "set"), Silent())


def test_a_newer_format_is_refused_by_name(good: BackupSet, tmp_path: Path) -> None:
    data = (good.directory / METADATA).read_bytes().replace(b'"version": 1', b'"version": 4', 1)
    with pytest.raises(IntegrityError, match="format version 4, and we read up to 3"):
        Metadata.decode(data, "metadata.json")


def test_keys_that_are_kept_in_a_way_we_do_not_know_are_refused_by_name(good: BackupSet) -> None:
    data = dataclasses.replace(good.metadata, requires=["rdb", "crystals"]).encode()
    assert b'"version": 3' in data
    with pytest.raises(IntegrityError, match="a way that we do not know: 'crystals'"):
        Metadata.decode(data, "metadata.json")


def hostile(path: Path, backup: BackupSet, *entries: tarfile.TarInfo, listed: tuple[FileEntry, ...] = ()) -> Path:
    """An archive that begins like ours and goes on with other entries."""
    raw = backup.metadata.with_files((*backup.metadata.files, *listed)).encode()
    with path.open("wb") as file, gzip.GzipFile(fileobj=file, mode="wb") as stream:
        for info, data in [(tarfile.TarInfo(f"x/{METADATA}"), raw), *((entry, b"") for entry in entries)]:
            if info.type == tarfile.REGTYPE and not info.size:
                info.size = len(data)
            stream.write(info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512))
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "evil",
    [
        entry("../evil"),
        entry("/etc/evil"),
        entry("x/../../evil"),
        entry("x/keys/keys-part-00000.jsonl", tarfile.SYMTYPE, "/etc/passwd"),
        entry("x/keys/keys-part-00000.jsonl", tarfile.LNKTYPE, "/etc/passwd"),
        entry("x/dev", tarfile.CHRTYPE),
        entry("x/keys", tarfile.DIRTYPE),
        entry("x/not-listed"),
        entry("x/metadata.json"),
    ],
    ids=lambda info: f"{info.name}:{info.type!r}",
)
def test_an_archive_cannot_write_what_it_does_not_list(good: BackupSet, tmp_path: Path, evil: tarfile.TarInfo) -> None:
    into = tmp_path / "into"
    into.mkdir()
    archive = hostile(tmp_path / "evil.tar.gz", good, evil)
    with archive.open("rb") as file, pytest.raises(IntegrityError):
        extract(file, into, archive.name)
    assert {path.name for path in tmp_path.rglob("*")} <= {"into", "evil.tar.gz", "keys", "keys-part-00000.jsonl"}
    assert not any(path.is_symlink() for path in into.rglob("*"))


@pytest.mark.parametrize(
    "path", ["../evil", "/evil", "a/../../evil", "", ".", "a//b", "metadata.json", "a\x00b", "-rf"]
)
def test_metadata_cannot_list_a_path_that_leaves_the_set(good: BackupSet, path: str) -> None:
    raw = good.metadata.with_files((FileEntry(path, 1, "0" * 64),)).encode()
    with pytest.raises(IntegrityError):
        Metadata.decode(raw, "metadata.json")


def test_a_bomb_is_defused(good: BackupSet, tmp_path: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    bomb = tmp_path / "bomb.tar.gz"
    folder = good.directory.name
    huge = entry(f"{folder}/keys/keys-part-00000.jsonl")
    huge.size = 1 << 40
    with bomb.open("wb") as file:
        raw = good.metadata.encode()
        head = entry(f"{folder}/{METADATA}")
        head.size = len(raw)
        file.write(gzip.compress(head.tobuf(tarfile.GNU_FORMAT) + raw + bytes(-len(raw) % 512)))
        file.write(gzip.compress(huge.tobuf(tarfile.GNU_FORMAT)))
        zeros = gzip.compress(bytes(50 << 20))
        for _ in range(20):
            file.write(zeros)
    with bomb.open("rb") as stream, pytest.raises(IntegrityError):
        extract(stream, into, bomb.name)
    assert sum(path.stat().st_size for path in into.rglob("*")) == 0


def test_an_honest_archive_that_does_not_fit_is_refused_before_it_is_unpacked(good: BackupSet, tmp_path: Path) -> None:
    listed = FileEntry("keys/keys-part-00000.jsonl", 1 << 60, "0" * 64, 1)
    into = tmp_path / "into"
    into.mkdir()
    writer = ArchiveWriter(tmp_path / "big.tar.gz", "x", 0)
    writer.add_bytes(METADATA, good.metadata.with_files((listed,)).encode())
    writer.finish()
    with (tmp_path / "big.tar.gz").open("rb") as stream, pytest.raises(RefusedError, match="are free"):
        extract(stream, into, "big.tar.gz")


def test_zeros_without_end_behind_the_archive_are_not_read(good: BackupSet, tmp_path: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    stream = io.BytesIO(archive_of(good).read_bytes() + gzip.compress(bytes(30 << 20)))
    with pytest.raises(IntegrityError, match="after its end"):
        extract(stream, into, "long.tar.gz")


@given(line=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)))
def test_any_bytes_as_records_are_refused_or_read(line: bytes) -> None:
    try:
        decode(line + b"\n", "somewhere")
    except UnderstudyError as error:
        assert isinstance(error, IntegrityError)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"components": {}}, "names no component"),
        ({"missing": {"redis": 5}}, "is no text"),
        ({"components": {"redis": {"keys": 0, "types": 7}}}, "keys by type"),
    ],
)
def test_metadata_that_says_nothing_or_nonsense_is_damage(change: dict[str, Any], says: str) -> None:
    set_id = SetId.parse("redis-backup-local-20261121T014839Z-e9cb")
    good = Metadata(set_id, "local", set_id.created, "t", {"redis": {"keys": 0, "types": {"list": 0}}})
    assert Metadata.decode(good.encode(), "it").components["redis"]["keys"] == 0
    with pytest.raises(IntegrityError, match=says):
        Metadata.decode(dataclasses.replace(good, **change).encode(), "it")
