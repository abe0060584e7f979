"""Requirement document 1, sections 1 and 5 to 8, as its reader would carry it out; 3 and 4 are its S3 profile.

`redis-cli` is played by single RESP calls to the ports that the document names; the make targets are the document's.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from s3 import BUCKET, PROFILE, S3Server, s3_server
from support import repository_root
from understudy.valkey.target import Address, Mode, Target
from understudy.valkey.topology import Topology
from understudy.valkey.wire import Wire

pytestmark = pytest.mark.long(60)
Make = Callable[..., str]
Typed = Callable[..., subprocess.CompletedProcess[str]]
S3_URI = f"s3://{BUCKET}/redis-backups"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def cli(port: int, *command: str | int) -> object:
    """`redis-cli -c -p PORT …`: a MOVED is followed."""
    address = Address("127.0.0.1", port)
    with Wire(address, Target((address,), Mode.STANDALONE)) as wire:
        reply = wire.pipeline([command])[0]
    if str(reply).startswith("MOVED"):
        return cli(int(str(reply).rpartition(":")[2]), *command)
    return reply


def primaries(port: int) -> list[int]:
    nodes = cli(port, "CLUSTER", "NODES")
    assert isinstance(nodes, bytes)
    topology = Topology.from_cluster_nodes(nodes.decode(), Address("127.0.0.1", port))
    return sorted(shard.primary.address.port for shard in topology.shards if shard.primary)


def total_keys(port: int) -> int:
    return sum(int(str(cli(primary, "DBSIZE"))) for primary in primaries(port))


@pytest.fixture
def make(tmp_path: Path, understudy_home: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Make:
    """`make TARGET NAME=value…` from a directory of its own, with the document's environment."""
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    root = repository_root()

    def run(target: str, **variables: str) -> str:
        done = subprocess.run(  # with Docker: tests/docker/document-1.sh
            ["make", "--no-print-directory", "-f", str(root / "Makefile"), "WITH=here", target]
            + [f"{name}={value}" for name, value in variables.items()],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"make {target} failed:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


def test_the_document_from_up_to_clean(make: Make, typed: Typed, port: str, tmp_path: Path) -> None:
    first = int(port)
    # 1: the cluster (`make up` is this on ports 7001 to 7006, which another test may be using)
    up = typed("up", "cluster", "--port", port)
    assert up.returncode == 0, up.stderr
    state = str(cli(first, "CLUSTER", "INFO"))
    assert "cluster_state:ok" in state
    assert "cluster_slots_assigned:16384" in state
    assert "cluster_known_nodes:6" in state
    assert cli(first, "PING") == b"PONG"
    assert "node-1" in make("logs")

    # 5.1: data
    for i in range(1, 1001):
        cli(first, "SET", f"user:{i}", f"name-{i}", "EX", 600)
    cli(first, "XADD", "mystream", "*", "field", "value")
    cli(first, "XGROUP", "CREATE", "mystream", "workers", "0")
    total = total_keys(first)
    assert total == 1001

    # 3, 4, 5.2: back up through a profile of a shared credentials file
    backups = tmp_path / "backups"
    variables = {"S3_URI": S3_URI, "AWS_PROFILE": PROFILE, "BACKUP_DIR": str(backups)}
    said = make("backup-local-profile", **variables)
    written = re.search(r"^Backup written: (\S+)", said, re.MULTILINE)
    assert written
    assert re.search(r"^Archive: \S+\.tar\.gz$", said, re.MULTILINE)
    uploaded = re.search(
        rf"^Uploaded: {S3_URI}/(redis-backup-local-\d{{8}}T\d{{6}}Z-\w+)\.tar\.gz$", said, re.MULTILINE
    )
    assert uploaded
    folder = backups / uploaded[1]
    assert Path(written[1]) == folder
    assert (folder / "metadata.json").is_file()
    assert list((folder / "keys").glob("keys-part-*.jsonl"))
    assert (backups / f"{uploaded[1]}.tar.gz").is_file()
    sums = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, check=False)
    assert sums.returncode == 0, sums.stdout

    # 5.3 to 5.5: delete, restore the latest from S3, and look
    for i in range(1, 1001):
        cli(first, "DEL", f"user:{i}")
    cli(first, "DEL", "mystream")
    assert total_keys(first) == 0
    elsewhere = {**variables, "BACKUP_DIR": str(tmp_path / "elsewhere")}  # nothing local can help
    assert "restored=1001, skipped=0, expired=0, failed=0" in make("restore-latest-profile", **elsewhere)
    assert cli(first, "GET", "user:1") == b"name-1"
    assert 0 < int(str(cli(first, "TTL", "user:1"))) <= 600
    assert b"length" in cli(first, "XINFO", "STREAM", "mystream")  # type: ignore[operator]
    assert total_keys(first) == total

    # 6: the list, newest first
    make("backup-local-profile", **variables)
    lines = make("list-backups-profile", **variables).splitlines()
    assert len(lines) == 2
    rows = [re.fullmatch(r"(\S+Z)\t(\d+)\t(redis-backups/\S+\.tar\.gz)", line) for line in lines]
    assert all(rows)
    assert [row[1] for row in rows if row] == sorted((row[1] for row in rows if row), reverse=True)

    # 7: verify
    said = make("dev-verify", INPUT_DIR=str(folder), SAMPLE="200", AWS_PROFILE=PROFILE)
    assert "Verify sample=200 -> missing=0, ttl_mismatch=0" in said

    # 8: options
    matched = typed("backup", "--match", "user:1*", "--chunk-keys", "50", "--out-dir", "matched", "--s3-uri", S3_URI)
    assert "(112 keys)" in matched.stdout
    parts = sorted((tmp_path / "matched").glob("*/keys/keys-part-*.jsonl"))
    counts = [len(part.read_text().splitlines()) for part in parts]
    assert sum(counts) == 112
    assert max(counts) <= 50
    cli(first, "SET", "user:1", "changed")
    cli(first, "DEL", "mystream")
    kept = typed("restore", "-i", str(folder), "--recreate-stream-groups")
    assert "restored=1, skipped=1000" in kept.stdout
    assert cli(first, "GET", "user:1") == b"changed"
    assert cli(first, "XINFO", "GROUPS", "mystream")
    replaced = typed("restore", "-i", str(folder), "--overwrite", "--force")
    assert "restored=1001, skipped=0" in replaced.stdout
    assert cli(first, "GET", "user:1") == b"name-1"
    nodes = ",".join(f"127.0.0.1:{node}" for node in range(first, first + 6))
    elsewhere_too = typed("backup", "--out-dir", "nodes", env={"REDIS_NODES": nodes, "ENV_PROFILE": "local"})
    assert "(1001 keys)" in elsewhere_too.stdout.replace(",", "")

    # 9: what the document warns of has an answer: wrong credentials are warned of, the set stays, and goes up later
    failed = typed("backup", "--out-dir", "later", "--s3-uri", S3_URI, env={"AWS_PROFILE": "wrong-secret"})
    assert failed.returncode == 10
    assert "Warning: the upload will fail as things stand" in failed.stderr
    later = re.search(r"understudy upload (\S+)", failed.stderr)
    assert later
    sent = typed("upload", later[1], "--out-dir", "later", "--s3-uri", S3_URI)
    assert sent.stdout == f"Uploaded: {S3_URI}/{later[1]}.tar.gz\n"
    assert typed("check", "--from-s3", later[1], "--s3-uri", S3_URI).returncode == 0
    refused = typed("list", "--s3-uri", S3_URI, env={"AWS_PROFILE": "unknown"})
    assert refused.returncode == 10
    assert "access key is not known" in refused.stderr

    # 10: tidy up
    make("down")
    make("clean")
    elsewhere = {"DOCKER_HOST": "unix:///none"}  # whoever has labs in containers on this machine keeps them
    assert "No lab" in typed("status", env=elsewhere).stdout
