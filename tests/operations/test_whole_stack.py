"""The bad night as a whole: PostgreSQL, a Valkey cluster and the stand-in of Qdrant are lost, and come back equal."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import Typed
from postgres import create_database, fill
from qdrant_standin import StandIn, filled, standin
from support import digests
from understudy.lab import Lab, sample
from understudy.lab.servers.postgres import ScratchPostgres, scratch_postgres
from understudy.valkey.router import Router

DATABASE = '스칼라 "app"'
DOCS = "scholaria_documents"


def dumped(server: ScratchPostgres) -> list[str]:
    """Everything of a server as lines of SQL, sorted: roles with passwords, schemas, rows, large objects, rights."""
    ran = subprocess.run(
        [server.bin / "pg_dumpall", "--dbname", server.url()],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PGPASSWORD": server.password},
    )
    assert ran.returncode == 0, ran.stderr
    return sorted(line for line in ran.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict", "--")))


def collections(qdrant: StandIn) -> dict[str, Any]:
    """Every point of every collection, and the aliases."""
    with httpx.Client(base_url=qdrant.url) as client:
        names = [one["name"] for one in client.get("/collections").json()["result"]["collections"]]
        body = {"limit": 10_000, "with_vector": True, "with_payload": True}
        points = {name: client.post(f"/collections/{name}/points/scroll", json=body).json()["result"] for name in names}
        return points | {"aliases": client.get("/aliases").json()["result"]}


def without_postgres_password(server: ScratchPostgres, lines: list[str]) -> list[str]:
    """Leave out what the two servers' own superuser differs in: its password."""
    return [line for line in lines if not line.startswith("ALTER ROLE postgres ")]


@pytest.mark.parametrize(
    "encrypted", [pytest.param(False, id="plain", marks=pytest.mark.soak), pytest.param(True, id="encrypted")]
)
def test_everything_is_destroyed_and_comes_back_equal(
    typed: Typed, valkey_cluster: Lab, tmp_path: Path, encrypted: bool
) -> None:
    target = valkey_cluster.target()
    env = {
        "BACKUP_DIR": str(tmp_path / "sets"),
        "REDIS_NODES": str(target.seeds[0]),
        **({"BACKUP_PASSPHRASE": "열려라 참깨"} if encrypted else {}),
    }

    def run(*words: str, **more: str) -> str:
        ran = typed(*words, env=env | more, timeout_s=120)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    with Router(target) as router:
        sample.fill(router, 400)
        sample.load_function(router)
    keys = digests(target)
    with scratch_postgres() as server, standin(tmp_path / "qdrant") as qdrant:
        create_database(server, DATABASE)
        fill(server, DATABASE)
        filled(qdrant.url, DOCS, 150)
        httpx.post(
            f"{qdrant.url}/collections/aliases",
            json={"actions": [{"create_alias": {"collection_name": DOCS, "alias_name": "documents"}}]},
        ).raise_for_status()
        rows, points = dumped(server), collections(qdrant)
        text = run("backup", POSTGRES_URL=server.url(DATABASE), QDRANT_URL=qdrant.url)
        assert all(title in text for title in ("PostgreSQL: ", "Redis: ", "Qdrant: ", "Span: "))

    with Router(target) as router:
        sample.wipe(router)
    with scratch_postgres() as server, standin(tmp_path / "another") as qdrant:
        where = {"POSTGRES_URL": server.url(DATABASE), "QDRANT_URL": qdrant.url}
        assert "whole" in run("check")
        shown = run("restore", "--dry-run", "latest", **where)
        assert [line.split(" from: ")[0] for line in shown.splitlines() if " from: " in line] == [
            f"[DRY RUN] Would restore {title}" for title in ("PostgreSQL", "Redis", "Qdrant")
        ]
        assert dumped(server) != rows
        run("restore", "latest", "--force", **where)
        assert without_postgres_password(server, dumped(server)) == without_postgres_password(server, rows)
        assert collections(qdrant) == points
        assert digests(target) == keys
        again = json.loads(run("restore", "latest", "--force", "--json", **where))  # over what is there: the same again
        assert {name: one["failed"] for name, one in again["components"].items()} == dict.fromkeys(
            again["components"], 0
        )
        assert without_postgres_password(server, dumped(server)) == without_postgres_password(server, rows)
        assert collections(qdrant) == points
