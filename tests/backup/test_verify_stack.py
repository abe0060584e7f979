"""`verify` asks every store of a set whether it is equal to it now."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Typed
from postgres import ask
from qdrant_standin import StandIn, filled, standin
from stack import Subject
from understudy.lab.servers.postgres import ScratchPostgres


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with standin(tmp_path_factory.mktemp("verified")) as found:
        yield found


def test_each_store_is_compared_in_a_line(
    typed: Typed, redis_subject: Subject, postgres_18: ScratchPostgres, database: str, running: StandIn, tmp_path: Path
) -> None:
    redis_subject.fill()
    ask(postgres_18, "CREATE TABLE t AS SELECT n FROM generate_series(1, 7) n", database)
    filled(running.reset().urls[0], "docs", 5)
    redis = {**redis_subject.env, "BACKUP_DIR": str(tmp_path)}
    env = {**redis, "POSTGRES_URL": postgres_18.url(database), "QDRANT_URL": running.urls[0]}
    assert typed("backup", env=env).returncode == 0
    done = typed("verify", "--full", env=env)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Verify full -> missing=0, ")
    assert lines[1:] == ["Verify postgres -> equal: 7 t", "Verify qdrant -> equal: 5 vectors in docs"]

    ask(postgres_18, "DELETE FROM t WHERE n > 5", database)
    only = typed("verify", "--component", "postgres", env=env)
    assert only.returncode == 12
    assert only.stdout == "Verify postgres -> differences=1: 5 t\n"
    assert f"PostgreSQL {database}: public.t has 5 rows, the set recorded 7" in only.stderr
    assert "what was written since is lost there" in only.stderr
    assert "--overwrite" not in only.stderr
    told = json.loads(typed("verify", "--json", "--full", env=env).stdout)
    assert told["clean"] is False
    assert told["missing"] == 0
    assert told["components"]["qdrant"]["differences"] == []

    # a sample of the keys is what it was; who has only Redis configured compares that, and is told of the others
    assert typed("verify", env=env).stdout.startswith("Verify sample=")
    alone = typed("verify", "--full", env=redis)
    assert alone.returncode == 0
    assert "postgres is not compared: POSTGRES_URL is not set" in alone.stderr
    assert typed("verify", "--component", "postgres", env=redis).returncode == 2
