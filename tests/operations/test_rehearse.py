"""A rehearsal, as it is typed: a good set passes, of one that lacks something the verdict is failed and says what."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from conftest import Typed
from receivers import http_receiver
from rehearsals import altered, without_a_line
from support import backed_up, digests, eventually, started
from understudy.backup.set import BackupSet
from understudy.lab import Lab
from understudy.lab.sample import fill, load_function, wipe
from understudy.operations.rehearsal.record import last_passed, recorded
from understudy.valkey.router import Router

KEYS = 120


@pytest.fixture(scope="module")
def good(valkey_standalone_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackupSet]:
    """A whole set of a server that still holds it, and one key more in another database."""
    target = valkey_standalone_lab.target()
    with Router(target) as router:
        fill(router, KEYS)
        load_function(router)
        yield backed_up(target, tmp_path_factory.mktemp("good"), chunk_keys=50)
        wipe(router)


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    return tmp_path / "sets"


def rehearse(typed: Typed, sets: Path, *words: str, code: int = 0, **env: str) -> Any:
    done = typed("rehearse", *words, "--out-dir", str(sets), "--json", env=env)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def checks(*rows: dict[str, Any]) -> dict[str, str]:
    return {"REHEARSE_CHECKS": json.dumps(rows)}


def servers(folder: Path) -> list[Path]:
    """Return the processes whose directory is below a folder: a server's, which renames itself, is in no argument."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if str(place.readlink()).startswith(str(folder)):
                found.append(place)
    return found


def test_a_good_set_passes_and_production_is_not_touched(
    typed: Typed, good: BackupSet, sets: Path, valkey_standalone_lab: Lab, tmp_path: Path
) -> None:
    before = digests(valkey_standalone_lab.target())
    page = tmp_path / "page.html"
    done = typed(
        "rehearse", str(good.directory), "--out-dir", str(sets), "--html", str(page), "--max-rto", "10m",
        env=valkey_standalone_lab.env(),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"[OK] Backup found: {good.directory}"
    assert lines[1] == "[OK] Restore completed: Redis"
    assert lines[2] == "[OK] Data integrity verified:"
    assert lines[3].startswith(f"     - Redis: {good.metadata.keys} keys")
    assert lines[4].startswith("[OK] All checks passed in ")
    assert lines[5].startswith("Recovery time: ")
    assert digests(valkey_standalone_lab.target()) == before
    (kept,) = recorded(sets)
    assert last_passed(sets) == kept
    assert (kept.verdict, kept.set, kept.whole) == ("passed", str(good.metadata.id), True)
    for path in (kept.path, kept.path.with_suffix(".html")):
        assert path.stat().st_mode & 0o777 == 0o600
    assert kept.path.parent.stat().st_mode & 0o777 == 0o700
    assert page.read_text() == kept.path.with_suffix(".html").read_text()
    entry = json.loads((sets / "audit.jsonl").read_text().splitlines()[-1])
    assert (entry["action"], entry["phase"], entry["outcome"]) == ("rehearse", "ended", "ok")
    assert entry["set"] == str(good.metadata.id)


def test_it_measures_the_recovery_and_the_age_of_the_data(typed: Typed, good: BackupSet, sets: Path) -> None:
    data = rehearse(typed, sets, str(good.directory))
    (redis,) = data["components"]
    assert [step["what"] for step in redis["steps"]] == ["start", "restore"]
    steps = sum(step["took_s"] for step in (*data["opening"], *redis["steps"]))
    assert data["recovery_s"] == pytest.approx(steps) == redis["recovery_s"]
    assert 0 < data["recovery_s"] < data["took_s"]
    since = time.time() - good.metadata.id.created.timestamp()
    assert since - 60 < data["age_s"] < since + 1


def test_limits_fail_it(typed: Typed, good: BackupSet, sets: Path) -> None:
    data = rehearse(typed, sets, str(good.directory), "--max-rto", "1ms", "--max-age", "1ms", code=15)
    assert data["verdict"] == "failed"
    assert len(data["reasons"]) == 2
    assert "Redis: the data is" in data["reasons"][0]
    assert "the recovery took" in data["reasons"][1]
    assert last_passed(sets) is None


def test_of_a_set_that_lacks_one_key_it_fails_and_names_part_and_type(
    typed: Typed, good: BackupSet, sets: Path, tmp_path: Path
) -> None:
    part = good.parts()[1].path
    lost: list[dict[str, Any]] = []
    bad = altered(good, tmp_path / "bad", {part: lambda data: without_a_line(data, 7, lost)})
    done = typed("rehearse", str(bad.directory), "--out-dir", str(sets))
    assert done.returncode == 15, done.stdout + done.stderr
    assert "[FAILED] Data integrity:" in done.stdout
    assert f"- Redis: the set holds {good.metadata.keys - 1} keys, and it recorded {good.metadata.keys}" in done.stdout
    assert f"- Redis: {part} holds 49 keys, and 50 were recorded" in done.stdout
    assert f"- Redis: keys of the type {lost[0]['type']}: " in done.stdout
    assert "[FAILED] The rehearsal failed, after " in done.stdout
    assert "[OK] All checks" not in done.stdout
    assert last_passed(sets) is None
    assert typed("check", str(bad.directory), "--out-dir", str(sets)).returncode == 0  # only a rehearsal notices


def test_a_key_that_no_server_takes_is_named(typed: Typed, good: BackupSet, sets: Path, tmp_path: Path) -> None:
    part = good.parts()[0].path

    def spoilt(data: bytes) -> bytes:
        lines = [orjson.loads(line) for line in data.splitlines()]
        dump = bytearray(base64.b64decode(lines[-1]["dump"]))
        dump[1] ^= 0xFF
        lines[-1] |= {"dump": base64.b64encode(dump).decode(), "key": "the:spoilt:one"}
        return b"".join(orjson.dumps(line) + b"\n" for line in lines)

    bad = altered(good, tmp_path / "bad", {part: spoilt})
    data = rehearse(typed, sets, str(bad.directory), code=15)
    assert data["verdict"] == "failed"
    assert any("the:spoilt:one" in text for text in data["components"][0]["failures"])
    assert any("the:spoilt:one" in text for text in data["components"][0]["differences"])


def test_a_damaged_set_is_refused_before_anything_is_started(
    typed: Typed, good: BackupSet, sets: Path, tmp_path: Path
) -> None:
    bad = tmp_path / good.directory.name
    shutil.copytree(good.directory, bad)
    part = bad / good.parts()[0].path
    part.write_bytes(part.read_bytes()[:-1])
    done = typed("rehearse", str(bad), "--out-dir", str(sets), env={"UNDERSTUDY_SERVER": "/nowhere/at/all"})
    assert done.returncode == 12, done.stdout + done.stderr
    assert good.parts()[0].path in done.stderr
    assert not list(recorded(sets))
    entry = json.loads((sets / "audit.jsonl").read_text().splitlines()[-1])
    assert entry["outcome"] == "failed"


def test_people_hear_of_one_that_failed_and_of_the_first_that_passed_after_it(
    typed: Typed, good: BackupSet, sets: Path, tmp_path: Path
) -> None:
    with http_receiver() as receiver:
        env = {"BACKUP_NOTIFY_WEBHOOK": f"{receiver.url}/hook"}
        place = str(good.directory)
        rehearse(typed, sets, place, **env)
        assert receiver.requests == [], "nothing went wrong before"
        slow = rehearse(typed, sets, place, "--max-rto", "0.001s", code=15, **env)
        assert slow["verdict"] == "failed"
        assert typed("rehearse", str(tmp_path / "no set"), "--out-dir", str(sets), env=env).returncode == 11
        rehearse(typed, sets, place, **env)
        rehearse(typed, sets, place, **env)
        texts = [body.decode() for _, body in receiver.requests]
    assert len(texts) == 3, texts
    assert "the verdict is failed" in texts[0]
    assert "no set" in texts[1]
    assert "The rehearsal of local passed" in texts[2]


def test_without_a_server_to_start_nothing_is_known(typed: Typed, good: BackupSet, sets: Path) -> None:
    """As where the lab is not installed: the verdict says so, and is never passed."""
    data = rehearse(typed, sets, str(good.directory), code=15, UNDERSTUDY_SERVER="/nowhere/at/all")
    assert data["verdict"] == "unknown"
    assert "no server could be started" in data["reasons"][0]
    assert data["components"][0]["verdict"] == "unknown"


def test_the_archive_and_the_newest_of_the_profile_can_be_rehearsed(
    typed: Typed, good: BackupSet, tmp_path: Path
) -> None:
    archive = good.directory.with_name(f"{good.directory.name}.tar.gz")
    assert rehearse(typed, tmp_path / "sets", str(archive))["place"] == str(archive)
    assert rehearse(typed, good.directory.parent, "latest")["set"] == str(good.metadata.id)
    shutil.rmtree(good.directory.parent / "rehearsals")
    assert not [path for path in (tmp_path / "sets").iterdir() if path.name.startswith(".partial")]


def test_a_set_with_more_databases_than_sixteen_and_clusters_sets_fit(
    typed: Typed, valkey_cluster: Lab, sets: Path, tmp_path: Path
) -> None:
    from understudy import lab

    with lab.standalone(databases=40) as server:
        server.call("node-1", "SET", "a", "1")
        port = server.target().seeds[0].port
        from dataclasses import replace

        with Router(replace(server.target(), db=33)) as router:
            router.wire(router.target.seeds[0]).call("SET", "far", "away")
        many = backed_up(server.target(), tmp_path / "many")
    assert port
    data = rehearse(
        typed, sets, str(many.directory),
        **checks({"name": "far", "command": ["GET", "far"], "database": 33, "expect": "away"}),
    )  # fmt: skip
    assert data["components"][0]["counts"] == [{"what": "keys", "recorded": 2, "found": 2}]
    with Router(valkey_cluster.target()) as router:
        fill(router, 30)
        of_a_cluster = backed_up(valkey_cluster.target(), tmp_path / "cluster")
        wipe(router)
    assert rehearse(typed, sets, str(of_a_cluster.directory))["verdict"] == "passed"


def test_the_users_checks_are_put_to_the_scratch_server(
    typed: Typed, good: BackupSet, sets: Path, valkey_standalone_lab: Lab, tmp_path: Path
) -> None:
    script = tmp_path / "smoke.sh"
    script.write_text('#!/bin/sh\nenv >"$0.env"\necho "said $REHEARSAL_REDIS_URL"\n')
    script.chmod(0o755)
    data = rehearse(
        typed, sets, str(good.directory), code=15,
        **valkey_standalone_lab.env(), POSTGRES_PASSWORD="planted", PGHOST="production",
        **checks(
            {"name": "keys", "component": "redis", "command": ["DBSIZE"], "at_least": 1},
            {"name": "none", "command": ["DBSIZE"], "at_most": 0},
            {"name": "wrong command", "command": ["NOSUCH"]},
            {"name": "list", "command": ["KEYS", "sample:*"], "at_least": 10},
            {"name": "smoke", "run": [str(script)]},
            {"name": "false", "run": ["sh", "-c", "echo no good; exit 3"]},
            {"name": "slow", "run": ["sh", "-c", "sleep 60 & sleep 60"], "timeout_s": 0.3},
            {"name": "not there", "run": ["/nowhere/at/all"]},
            {"name": "rows", "sql": "SELECT 1"},
        ),
    )  # fmt: skip
    said = {check["name"]: (check["verdict"], check["text"]) for check in data["checks"]}
    assert said["keys"] == ("passed", f"{good.metadata.keys} (at least 1)")
    assert said["none"] == ("failed", f"{good.metadata.keys} (at most 0)")
    assert said["wrong command"][0] == "failed"
    assert "unknown command" in said["wrong command"][1]
    assert said["list"][0] == "passed"
    assert said["smoke"][0] == "passed"
    assert "***" in said["smoke"][1]  # the scratch server's password
    assert said["false"] == ("failed", "ended with 3: no good")
    assert said["slow"] == ("unknown", "no answer within 0.3 s")
    assert said["not there"][0] == "failed"
    assert said["rows"] == ("unknown", "postgres was not restored")
    assert data["verdict"] == "failed"
    seen = dict(line.split("=", 1) for line in script.with_suffix(".sh.env").read_text().splitlines() if "=" in line)
    assert seen["REDIS_URL"] == seen["REHEARSAL_REDIS_URL"] != valkey_standalone_lab.env()["REDIS_URL"]
    assert not seen.keys() & {"REDIS_NODES", "REDIS_MODE", "POSTGRES_PASSWORD", "PGHOST", "REHEARSE_CHECKS"}
    password = seen["REDIS_URL"].split(":")[2].split("@")[0]
    for path in sets.rglob("*"):
        assert not path.is_file() or password not in path.read_text(errors="replace")


def test_a_check_that_makes_no_sense_is_named_before_anything_starts(typed: Typed, sets: Path) -> None:
    done = typed("rehearse", "--out-dir", str(sets), env=checks({"name": "my check", "run": ["true"], "at_lest": 1}))
    assert done.returncode == 2, done.stderr
    assert "'my check'" in done.stderr
    assert "'at_lest'" in done.stderr


@pytest.mark.parametrize("name", ["POSTGRES_URL", "QDRANT_URL"])
def test_production_named_for_rehearsals_is_refused(typed: Typed, good: BackupSet, sets: Path, name: str) -> None:
    scheme = "postgresql://me:planted@" if name == "POSTGRES_URL" else "http://"
    done = typed(
        "rehearse", str(good.directory), "--out-dir", str(sets),
        env={name: f"{scheme}localhost", f"REHEARSE_{name}": f"{scheme}127.0.0.1"},
    )  # fmt: skip
    assert done.returncode == 14, done.stderr
    assert f"REHEARSE_{name}" in done.stderr
    assert "planted" not in done.stderr


def test_a_component_that_the_set_lacks_is_said(typed: Typed, good: BackupSet, sets: Path, tmp_path: Path) -> None:
    lacking = altered(good, tmp_path / "lacking", {}, missing={"qdrant": "connecting to Qdrant: it did not answer"})
    done = typed("rehearse", str(lacking.directory), "--out-dir", str(sets))
    assert done.returncode == 0, done.stderr
    assert "[NOT IN THE SET] Qdrant: connecting to Qdrant: it did not answer" in done.stdout
    done = typed("rehearse", str(lacking.directory), "--out-dir", str(sets), "--component", "qdrant")
    assert done.returncode == 11
    assert "it did not answer" in done.stderr


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at /proc")
def test_interrupted_it_leaves_no_server_and_no_record(
    typed: Typed, good: BackupSet, sets: Path, tmp_path: Path
) -> None:
    place = tmp_path / "scratch"
    place.mkdir()
    process = started(
        "rehearse", str(good.directory), "--out-dir", str(sets),
        env={"TMPDIR": str(place), **checks({"name": "long", "run": ["sleep", "600"]})},
    )  # fmt: skip
    try:
        eventually(lambda: servers(place / "understudy-lab-"), within_s=30)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    eventually(lambda: not servers(place) and not [*place.glob("understudy-lab-*")], within_s=15)
    assert not list(recorded(sets))
    entry = json.loads((sets / "audit.jsonl").read_text().splitlines()[-1])
    assert (entry["phase"], entry["outcome"]) == ("ended", "failed")


def test_kept_servers_answer_until_ctrl_c(typed: Typed, good: BackupSet, sets: Path) -> None:
    process = started("rehearse", str(good.directory), "--out-dir", str(sets), "--keep", env={"PYTHONUNBUFFERED": "1"})
    try:
        assert process.stderr
        line = next(line for line in process.stderr if "until Ctrl-C" in line)
        place = Path(line.rpartition(" . ")[2].strip())
        assert place.stat().st_mode & 0o777 == 0o600
        url = place.read_text().partition("REHEARSAL_REDIS_URL=")[2].strip()
        from understudy.valkey.target import Target

        with Router(Target.from_url(url)) as router:
            assert router.wire(router.target.seeds[0]).call("DBSIZE") == good.metadata.keys
        assert last_passed(sets)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert not place.exists()


def test_take_takes_a_set_first(typed: Typed, good: BackupSet, sets: Path, valkey_standalone_lab: Lab) -> None:
    data = rehearse(typed, sets, "--take", **valkey_standalone_lab.env())
    assert data["taken"]
    assert data["age_s"] < 60
    assert Path(data["place"]).parent == sets
    assert data["components"][0]["counts"][0]["found"] == good.metadata.keys


def test_two_sets_named_are_refused(typed: Typed, sets: Path) -> None:
    for words in (("--take", "x"), ("x", "--from-s3", "y")):
        assert typed("rehearse", *words, "--out-dir", str(sets)).returncode == 2


def test_a_record_that_is_damaged_is_passed_over(typed: Typed, good: BackupSet, sets: Path) -> None:
    rehearse(typed, sets, str(good.directory))
    folder = sets / "rehearsals"
    (folder / "29990101T000000.000Z-x.json").write_text('{"format": "understudy-rehearsal"')
    (folder / "29990101T000001.000Z-x.json").write_text("[]")
    found = last_passed(sets)
    assert found
    assert found.set == str(good.metadata.id)
