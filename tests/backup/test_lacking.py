"""Who restores everything is told what the set lacks: before it is restored, and by `check` and `list`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Typed
from qdrant_standin import StandIn, filled, standin
from stack import NOWHERE, Subject


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with standin(tmp_path_factory.mktemp("lacking")) as found:
        yield found


def test_a_store_that_is_missing_in_a_set_is_named_with_the_newest_set_that_has_it(
    typed: Typed, redis_subject: Subject, running: StandIn, tmp_path: Path
) -> None:
    redis_subject.fill()
    filled(running.reset().urls[0], "docs", 5)
    env = {**redis_subject.env, "QDRANT_URL": running.urls[0], "BACKUP_DIR": str(tmp_path)}
    assert typed("backup", "--component", "redis", env=env).returncode == 0
    none = typed("restore", "--dry-run", "latest", env=env)
    assert none.returncode == 0
    assert "Warning: Qdrant is missing in this set; no other set here holds it." in none.stderr
    assert typed("backup", env=env).returncode == 0
    (whole, _) = json.loads(typed("list", "--json", env=env).stdout)
    away = {**env, "QDRANT_URL": f"http://{NOWHERE}", "BACKUP_OPTIONAL": "qdrant"}
    assert typed("backup", env=away).returncode == 0
    header, *rows = typed("list", "--long", env=env).stdout.splitlines()
    assert header.split() == ["TAKEN", "BYTES", "KEYS", "TIER", "HOLDS", "SET"]
    assert [row.split("by hand")[1].rsplit(None, 1)[0].strip() for row in rows] == [
        "redis, no qdrant", "redis, qdrant", "redis"
    ]  # fmt: skip
    for words in (("restore", "--dry-run", "latest"), ("restore", "latest"), ("check", "latest")):
        done = typed(*words, env=env)
        assert done.returncode == 0, done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("Warning: Qdrant is missing")]
        assert "Connection refused" in line, "the reason of that night"
        assert f"the newest set with it is {whole['id']} (--component qdrant latest)" in line
    told = json.loads(typed("restore", "--dry-run", "--json", "latest", env=env).stdout)
    assert told["to"] == {"redis": f"{redis_subject.component().where()}"}
    assert "Qdrant is missing" in told["warnings"][0]
    asked = typed("restore", "--component", "redis", "--dry-run", "latest", env=env)
    assert "missing" not in asked.stderr, "nobody asked for it"
    assert "missing" not in typed("restore", "--dry-run", str(whole["id"]), env=env).stderr


def test_a_set_of_some_keys_says_so(typed: Typed, redis_subject: Subject, tmp_path: Path) -> None:
    redis_subject.fill()
    env = {**redis_subject.env, "BACKUP_DIR": str(tmp_path)}
    assert typed("backup", "--match", "*1*", env=env).returncode == 0
    for words in (
        ("restore", "--dry-run", "latest"),
        ("restore", "--component", "redis", "latest"),
        ("check",),
        ("verify",),
        ("verify", "--full"),
    ):
        assert "this set holds only the keys that match '*1*'" in typed(*words, env=env).stderr
    assert json.loads(typed("list", "--json", env=env).stdout)[0]["match"] == "*1*"
    told = json.loads(typed("verify", "--json", env=env).stdout)
    assert told["warnings"] == ["this set holds only the keys that match '*1*'"]
    keys = json.loads(typed("list", "--json", env=env).stdout)[0]["keys"]
    assert f" {keys:,}  by hand  redis, only '*1*'  " in typed("list", "--long", env=env).stdout


def test_a_comparison_with_a_set_of_nothing_says_so(typed: Typed, redis_subject: Subject, tmp_path: Path) -> None:
    redis_subject.fill()
    env = {**redis_subject.env, "BACKUP_DIR": str(tmp_path)}
    for match in ("*", "nomatch:*"):
        assert typed("backup", "--match", match, env=env).returncode == 0
    done = typed("verify", "--full", env=env)
    assert done.returncode == 0, "it is equal: nothing of it is missing"
    assert "Warning: this set holds only the keys that match 'nomatch:*'." in done.stderr
    assert re.search(
        r"Warning: the set holds no keys: none matches 'nomatch:\*', and redis-\S+ before it held", done.stderr
    )
    assert " 0  by hand  redis, only 'nomatch:*'  " in typed("list", "--long", env=env).stdout
