"""Rehearsals of sets that hold more than Redis, that are encrypted, or that lie in an object store."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import Typed
from qdrant_standin import StandIn, filled, standin
from rehearsals import altered
from s3 import BUCKET, s3_server
from understudy.backup.components.qdrant import QdrantComponent
from understudy.backup.components.redis import RedisComponent
from understudy.backup.encryption import Lock
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.set import BackupSet
from understudy.backup.take import take
from understudy.lab import Lab
from understudy.operations.rehearsal.record import last_passed, recorded
from understudy.progress import Silent
from understudy.settings import load

KEY = "planted-qdrant-key"
DOCS = "scholaria_documents"
POINTS = 40


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """The stand-in of a Qdrant that is backed up."""
    with standin(tmp_path_factory.mktemp("production")) as running:
        filled(running.url, DOCS, POINTS)
        yield running


@pytest.fixture(scope="module")
def _spare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with standin(tmp_path_factory.mktemp("spare"), api_key=KEY) as running:
        yield running


@pytest.fixture
def spare(_spare: StandIn) -> StandIn:
    """The stand-in of a Qdrant for rehearsals; empty."""
    return _spare.reset()


@pytest.fixture(scope="module")
def vectors(production: StandIn, tmp_path_factory: pytest.TempPathFactory) -> BackupSet:
    """A set of collections."""
    with contextlib.closing(QdrantComponent(production.urls)) as component:
        return take([component], LocalRepository(tmp_path_factory.mktemp("sets")), None, "local", Silent()).backup


def given(spare: StandIn) -> dict[str, str]:
    return {"REHEARSE_QDRANT_URL": spare.url, "REHEARSE_QDRANT_API_KEY": KEY}


def collections(running: StandIn, key: str = "") -> list[str]:
    answer = httpx.get(f"{running.url}/collections", headers={"api-key": key}).raise_for_status().json()
    return [row["name"] for row in answer["result"]["collections"]]


def test_vectors_are_restored_counted_and_taken_away_again(
    typed: Typed, vectors: BackupSet, production: StandIn, spare: StandIn, tmp_path: Path
) -> None:
    seen = len(production.seen())
    run = ["sh", "-c", 'test "$REHEARSAL_QDRANT_API_KEY" = "$QDRANT_API_KEY" && echo "$QDRANT_URL"']
    done = typed(
        "rehearse", str(vectors.directory), "--out-dir", str(tmp_path),
        env={**given(spare), "QDRANT_URL": production.url, "QDRANT_API_KEY": "production's",
             "REHEARSE_CHECKS": json.dumps([{"name": "url", "run": run, "expect": spare.url}])},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"     - Qdrant: {POINTS} vectors in {DOCS}" in done.stdout
    assert collections(spare, KEY) == []
    assert len(production.seen()) == seen, "production was asked"
    kept = last_passed(tmp_path)
    assert kept
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY not in path.read_text(errors="replace")


def test_of_a_set_that_lacks_one_vector_it_fails_and_names_the_collection(
    typed: Typed, vectors: BackupSet, spare: StandIn, tmp_path: Path
) -> None:
    path = next(entry.path for entry in vectors.metadata.files if entry.path.endswith(".snapshot"))
    filled(spare.url, DOCS, POINTS - 1, api_key=KEY)
    with contextlib.closing(QdrantComponent(spare.urls, api_key=KEY)) as component:
        fewer = take([component], LocalRepository(tmp_path / "fewer"), None, "local", Silent()).backup
    spare.reset()
    data = (fewer.directory / path).read_bytes()
    section = json.loads(json.dumps(vectors.metadata.components["qdrant"]))
    section["collections"][0]["files"][0]["checksum"] = hashlib.sha256(data).hexdigest()
    bad = altered(vectors, tmp_path / "bad", {path: lambda _: data}, components={"qdrant": section})
    done = typed("rehearse", str(bad.directory), "--out-dir", str(tmp_path), env=given(spare))
    assert done.returncode == 15, done.stdout + done.stderr
    assert f"- Qdrant: {POINTS - 1} vectors in {DOCS}, and the set recorded {POINTS} vectors" in done.stdout
    assert collections(spare, KEY) == []
    assert last_passed(tmp_path) is None


def test_without_a_qdrant_for_rehearsals_nothing_is_known(typed: Typed, vectors: BackupSet, tmp_path: Path) -> None:
    done = typed("rehearse", str(vectors.directory), "--out-dir", str(tmp_path))
    assert done.returncode == 15, done.stdout + done.stderr
    assert "[UNKNOWN] Qdrant: not rehearsed: REHEARSE_QDRANT_URL names no Qdrant" in done.stdout
    assert [one.verdict for one in recorded(tmp_path)] == ["unknown"]


def test_a_qdrant_that_does_not_answer_or_know_the_key_is_unknown(
    typed: Typed, vectors: BackupSet, spare: StandIn, tmp_path: Path
) -> None:
    for env in ({"REHEARSE_QDRANT_URL": "http://127.0.0.1:1"}, {"REHEARSE_QDRANT_URL": spare.url}):
        done = typed("rehearse", str(vectors.directory), "--out-dir", str(tmp_path), env=env)
        assert done.returncode == 15, done.stdout + done.stderr
        assert "[UNKNOWN] Qdrant: not rehearsed: " in done.stdout


def test_a_qdrant_that_holds_anything_is_refused_and_left_alone(
    typed: Typed, vectors: BackupSet, spare: StandIn, tmp_path: Path
) -> None:
    filled(spare.url, "somebody's", 3, api_key=KEY)
    done = typed("rehearse", str(vectors.directory), "--out-dir", str(tmp_path), env=given(spare))
    assert done.returncode == 14, done.stdout + done.stderr
    assert "somebody's" in done.stderr
    assert collections(spare, KEY) == ["somebody's"]
    assert not list(recorded(tmp_path))


def keys(target: Any, where: Path, **how: Any) -> BackupSet:
    with contextlib.closing(RedisComponent(target)) as component:
        return take([component], LocalRepository(where), None, "local", Silent(), **how).backup


def test_an_encrypted_set_is_rehearsed_with_its_key_only(typed: Typed, valkey_standalone: Lab, tmp_path: Path) -> None:
    valkey_standalone.call("node-1", "SET", "secret", "planted-value")
    backup = keys(valkey_standalone.target(), tmp_path / "sets", lock=_lock(tmp_path))
    done = typed("rehearse", "--out-dir", str(tmp_path / "sets"))
    assert done.returncode == 14, done.stdout + done.stderr
    done = typed(
        "rehearse", "--out-dir", str(tmp_path / "sets"), "--json", env={"BACKUP_IDENTITY": str(tmp_path / "id")}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(done.stdout)
    assert (data["set"], data["verdict"]) == (str(backup.metadata.id), "passed")
    assert "Check the sums and decrypt" in [step["what"] for step in data["opening"]]
    assert not [path for path in (tmp_path / "sets").iterdir() if path.name.startswith(".partial")]


def _lock(folder: Path) -> Lock:
    import pyrage

    identity = pyrage.x25519.Identity.generate()
    (folder / "id").write_text(f"{identity}\n")
    (folder / "id").chmod(0o600)
    lock = Lock.from_settings(load(backup_recipients=[str(identity.to_public())]))
    assert lock
    return lock


def test_a_set_of_the_object_store(
    typed: Typed, valkey_standalone: Lab, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    valkey_standalone.call("node-1", "SET", "a", "1")
    uri = f"s3://{BUCKET}/rehearse"
    with s3_server(tmp_path_factory.mktemp("s3")) as s3:
        env = {**s3.env, **valkey_standalone.env()}
        assert typed("backup", "--out-dir", str(tmp_path / "away"), "--s3-uri", uri, env=env).returncode == 0
        done = typed(
            "rehearse", "--from-s3", "latest", "--s3-uri", uri, "--out-dir", str(tmp_path / "here"), "--json", env=env
        )
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(done.stdout)
    assert data["place"] == f"{uri}/{data['set']}.tar.gz"
    assert data["opening"][0]["what"] == "Download and unpack"
    assert last_passed(tmp_path / "here")
