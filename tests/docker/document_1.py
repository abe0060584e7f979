"""Requirement document 1, sections 1 to 8 and 10 and its appendix, typed as they stand there, with Docker.

    .venv/bin/python tests/docker/document_1.py

Needs a Docker engine on this machine (Linux), ports 7001 to 7006, make, and `make install` for the S3 server, which
checks credentials (moto's). BASE_IMAGE, BUILD_ARGS and VALKEY_IMAGE are taken from the environment. Whatever it made it
removes, also when it fails or is interrupted. It ends with 0, or with 1 and what did not hold; 3 where it cannot begin.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from s3 import BUCKET, PROFILE, s3_server  # found by the line above

ROOT = Path(__file__).resolve().parents[2]
PORTS = range(7001, 7007)
NAMES = [*(f"redis-{number}" for number in range(1, 7)), "redis-cluster-entry"]
PREFIX = "redis-backups"
S3_URI = f"s3://{BUCKET}/{PREFIX}"
IMAGE = "redis-backup-tool:latest"
VALKEY_IMAGE = os.environ.get("VALKEY_IMAGE", "valkey/valkey:9")
_SET = r"redis-backup-local-\d{8}T\d{6}Z-\w+"
_SLOWEST_S = 900

CLUSTER_INFO = "redis-cli -p 7001 cluster info | egrep 'cluster_state|cluster_slots_assigned|cluster_known_nodes'"
PRIMARIES = r"""PRIMARIES=$(redis-cli -p 7001 cluster nodes \
  | awk '$3 ~ /master/ && $3 !~ /fail/ {split($2,a,":"); split(a[2],b,"@"); print b[1]}' \
  | sort -n | uniq)
"""
TOTAL = r"""for p in $PRIMARIES; do echo -n "$p: "; redis-cli -p $p dbsize; done
TOTAL=$(for p in $PRIMARIES; do redis-cli -p $p dbsize; done | awk '{s+=$1} END{print s}')
echo "TOTAL_KEYS=$TOTAL"
"""
# the document's `*` stands without quotes: a shell puts the names of files there
LOAD = r"""for i in $(seq 1 1000); do redis-cli -p 7001 set "user:$i" "name-$i" EX 600 >/dev/null; done
redis-cli -p 7001 XADD mystream '*' field value
"""
DELETE = r"""redis-cli -p 7001 scan 0 match 'user:*' count 100000 | xargs -n1 redis-cli -p 7001 del >/dev/null
redis-cli -p 7001 del mystream
"""
BACKUP = 'make backup-local-profile S3_URI="$S3_URI" AWS_PROFILE=$AWS_PROFILE BACKUP_DIR=./backups'
RESTORE = 'make restore-latest-profile S3_URI="$S3_URI" AWS_PROFILE=$AWS_PROFILE'
LIST = 'make list-backups-profile S3_URI="$S3_URI" AWS_PROFILE=$AWS_PROFILE'
VERIFY = r"""DIR=$(ls -1dt ./backups/redis-backup-local-*/ | head -n1)
docker run --rm \
  -e ENV_PROFILE=local \
  -v "$(realpath "$DIR"):/in" \
  redis-backup-tool:latest verify -i /in --sample 200
"""
# `{options}` is where section 8 puts its `-e` and `-v`, `{words}` the command
RUN = r"""docker run --rm \
  -e ENV_PROFILE=local \
  -e S3_URI="$S3_URI" \
  -e AWS_PROFILE=toy-root \
  -e AWS_SDK_LOAD_CONFIG=1 \
  -v "$HOME/.aws:/root/.aws:ro" \
  {options} \
  redis-backup-tool:latest {words}
"""


class CannotError(Exception):
    """This machine cannot play the document."""


class Scene:
    """One play of the document, in a directory and a HOME of its own."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.env = env

    def says(self, typed: str, *, code: int = 0) -> str:
        """Type it on the host; return what it said on both streams, or fail with that."""
        sys.stdout.write("\n".join(f"$ {line}" for line in typed.strip().splitlines()) + "\n")
        sys.stdout.flush()
        done = subprocess.run(
            ["bash", "-c", typed], cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False, timeout=_SLOWEST_S,
        )  # fmt: skip
        assert done.returncode == code, f"exit code {done.returncode}, not {code}, of:\n{typed}\n{done.stdout}"
        return done.stdout

    def cli(self, typed: str) -> str:
        """Type a snippet of redis-cli: with this machine's, or in a container of the servers' image.

        Either way it follows MOVED (`-c`), which the document leaves out: without, it would reach a third of the keys.
        """
        if shutil.which("redis-cli") or shutil.which("valkey-cli"):
            return self.says(typed)
        inside = (
            f"docker run --rm --network host -v {self.folder}/bin:/usr/local/sbin:ro --entrypoint sh {VALKEY_IMAGE}"
        )
        return self.says(f"{inside} -c {shlex.quote(typed)}")

    def total(self) -> int:
        """Return the document's TOTAL_KEYS."""
        return int(found(r"TOTAL_KEYS=(\d+)", self.cli(PRIMARIES + TOTAL))[1])

    def run(self, words: str, *options: str, code: int = 0) -> str:
        """Type the appendix' `docker run` with more options."""
        return self.says(RUN.format(options=" ".join(options), words=words), code=code)


def found(pattern: str, text: str) -> re.Match[str]:
    """Return where it stands in the text; fail where it does not."""
    match = re.search(pattern, text, re.MULTILINE)
    assert match, f"no {pattern!r} in:\n{text}"
    return match


def play(scene: Scene) -> None:
    """Type the whole document, and hold what it expects against what is there."""
    section("1. the cluster")
    scene.says("make up")
    assert "make up" not in scene.says("make up"), "a second `make up` must find the cluster"
    logs = scene.says("make logs")
    found(r"--cluster create .*--cluster-yes", logs)
    found(r"\[OK\] All 16384 slots covered", logs)
    running = scene.says("docker ps --format '{{.Names}} {{.Status}}'")
    for name in NAMES[:6]:
        found(rf"^{name} Up .*\(healthy\)", running)
    assert scene.cli("redis-cli -p 7001 ping").strip() == "PONG"
    info = scene.cli(CLUSTER_INFO)
    for line in ("cluster_state:ok", "cluster_slots_assigned:16384", "cluster_known_nodes:6"):
        assert line in info, info
    assert scene.total() == 0

    section("2. the image")
    scene.says("make build-backup-tool")
    found(IMAGE.replace(":", r"\s+"), scene.says("docker images"))

    section("3 and 4. a profile of shared credentials")
    written(scene, scene.says(BACKUP))

    section("5. data, backup, loss, restore")
    scene.cli(LOAD)
    before = scene.total()
    assert before == 1001, before
    sets = written(scene, scene.says(BACKUP))
    assert list((sets / "keys").glob("keys-part-*.jsonl"))
    owner = sets.stat().st_uid
    assert owner == os.getuid(), f"the set belongs to {owner}, not to who typed make"
    scene.cli(DELETE)
    assert scene.total() < before, "nothing was deleted"
    said = scene.says(RESTORE)
    restored, skipped = map(int, found(r"restored=(\d+), skipped=(\d+)", said).groups())
    assert restored > 0
    assert restored + skipped == before, said
    looked_at(scene)
    assert (total := scene.total()) == before, f"{total} keys, not {before}"
    scene.cli(PRIMARIES + "for p in $PRIMARIES; do redis-cli -p $p flushall; done")
    assert "restored=1001, skipped=0" in scene.says(RESTORE + " BACKUP_DIR=./elsewhere")  # nothing local can help
    looked_at(scene)

    section("6. list")
    rows = re.findall(rf"^(\S+Z)\t\d+\t{PREFIX}/{_SET}\.tar\.gz$", scene.says(LIST), re.MULTILINE)
    assert len(rows) == 2, rows
    assert rows == sorted(rows, reverse=True)

    section("7. verify")
    found(r"Verify sample=200 -> missing=0, ttl_mismatch=0", scene.says(VERIFY))
    said = scene.says(f'make dev-verify INPUT_DIR="{sets}" SAMPLE=200 AWS_PROFILE=$AWS_PROFILE')
    found(r"Verify sample=200 -> missing=0, ttl_mismatch=0", said)

    section("8. options")
    options(scene, sets)

    section("9. keys that are wrong, and keys without rights")
    kept = f"-v {scene.folder}/wrong:/data/backups"
    (scene.folder / "wrong").mkdir()
    said = scene.run("backup", "-e AWS_PROFILE=wrong-secret", kept, code=10)
    found(r"^Backup written: ", said)
    found(r"(?i)secret", said)
    found(r"(?i)access key is not known", scene.run("list", "-e AWS_PROFILE=unknown", code=10))
    found(r"(?i)denied|not allowed", scene.run("list", "-e AWS_PROFILE=no-rights", code=10))

    section("the appendix: docker run as it stands, into a directory that is not there yet")
    said = scene.run("backup", f"-v {scene.folder}/redis-backups:/data/backups")
    found(rf"^Uploaded: {S3_URI}/{_SET}\.tar\.gz$", said)

    section("10. tidy up")
    scene.says("make down && make clean")
    left = scene.says("docker ps --all --format '{{.Names}}'").split()
    assert not set(NAMES) & set(left), left
    assert "redis-cluster_" not in scene.says("docker volume ls --format '{{.Name}}'")
    assert sets.is_dir()


def written(scene: Scene, said: str) -> Path:
    """Check the lines of a backup and what they name; return the set's directory on the host."""
    name = found(rf"^Uploaded: {S3_URI}/({_SET})\.tar\.gz$", said)[1]
    found(rf"^Backup written: \S*/{name}\b", said)
    found(rf"^Archive: \S*/{name}\.tar\.gz$", said)
    assert (scene.folder / "backups" / f"{name}.tar.gz").is_file()
    path = scene.folder / "backups" / name
    assert (path / "metadata.json").is_file()
    return path


def looked_at(scene: Scene) -> None:
    """Section 5.5."""
    assert scene.cli("redis-cli -p 7001 get user:1").strip() == "name-1"
    assert 0 < int(scene.cli("redis-cli -p 7001 ttl user:1")) <= 600
    found(r"length", scene.cli("redis-cli -p 7001 xinfo stream mystream"))


def options(scene: Scene, sets: Path) -> None:
    """Section 8: --match, --chunk-keys, stream groups, --overwrite, REDIS_NODES."""
    mount = f"-v {scene.folder}/options:/data/backups"
    (scene.folder / "options").mkdir()
    said = scene.run("backup --match 'user:1*' --chunk-keys 50", mount)
    found(r"\(112 keys\)", said)
    parts = sorted((scene.folder / "options").glob("*/keys/keys-part-*.jsonl"))
    counts = [len(part.read_text().splitlines()) for part in parts]
    assert sum(counts) == 112, counts
    assert max(counts) <= 50, counts
    assert len(counts) > 2, counts

    scene.cli("redis-cli -p 7001 xgroup create mystream workers 0")
    scene.run("backup", mount)
    newest = max((scene.folder / "options").glob("redis-backup-local-*/"), key=lambda path: path.stat().st_mtime_ns)
    scene.cli("redis-cli -p 7001 set user:1 changed; redis-cli -p 7001 del mystream")
    mounted = f"-v {newest}:/in"
    found(r"restored=1, skipped=1000", scene.run("restore -i /in --recreate-stream-groups", mounted))
    assert scene.cli("redis-cli -p 7001 get user:1").strip() == "changed"
    found(r"workers", scene.cli("redis-cli -p 7001 xinfo groups mystream"))
    said = scene.run("restore -i /in --overwrite --force", mounted, f"-v {sets.parent}:/data/backups")
    found(r"restored=1001, skipped=0", said)
    assert scene.cli("redis-cli -p 7001 get user:1").strip() == "name-1"

    nodes = ",".join(f"127.0.0.1:{port}" for port in (7004, 7005, 7006))
    said = scene.run("backup", f'--network host -e ENV_PROFILE=dev -e REDIS_NODES="{nodes}"', mount)
    found(r"^Backup written: \S*/redis-backup-dev-\S+ \(1,?001 keys\)", said)


def section(title: str) -> None:
    sys.stdout.write(f"\n== {title} ({time.strftime('%X')})\n")
    sys.stdout.flush()


def check_machine() -> None:
    """Look whether it can begin.

    Raises:
        CannotError: no engine answers, or names and ports are somebody else's.
    """
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        raise CannotError("no Docker engine answers (docker info)")
    system = ask("docker", "info", "--format", "{{.OperatingSystem}}")
    if system == "Docker Desktop":
        raise CannotError(
            "host networking is not this machine's in Docker Desktop: docs/containers.md has the other file"
        )
    there = sorted(set(NAMES) & set(ask("docker", "ps", "--all", "--format", "{{.Names}}").split()))
    if there:
        raise CannotError(f"containers are there already: {', '.join(there)} (make down clean WITH=docker)")
    taken = [port for port in PORTS if listens(port)]
    if taken:
        raise CannotError(f"ports are taken: {', '.join(map(str, taken))} (make down WITH=here, or whoever has them)")


def listens(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex(("127.0.0.1", port)) == 0


def ask(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def bridge_address() -> str:
    """Return this machine's address on Docker's own bridge, where the S3 server is reached from every container."""
    script = ROOT / "deploy" / "compose" / "with-docker.sh"
    return ask("sh", str(script), "address") or "172.17.0.1"


@contextlib.contextmanager
def stage() -> Iterator[Scene]:
    """Give a directory with a Makefile, a HOME with `~/.aws`, an S3 server and a redis-cli; take all of it away."""
    check_machine()
    folder = Path(tempfile.mkdtemp(prefix="understudy-document-1-"))
    network = not ask("docker", "network", "inspect", "dev_net", "--format", "{{.Name}}")
    try:
        home = folder / "home"
        (home / ".aws").mkdir(parents=True)
        (folder / "Makefile").write_text(f"include {ROOT}/Makefile\n")
        tools(folder / "bin")
        address = bridge_address()
        with s3_server(home / ".aws", host=address) as s3:
            profiles = ("wrong-secret", "unknown", "no-rights")
            sections = "\n".join(
                f"[profile {name}]\nregion = us-east-1\nendpoint_url = {s3.endpoint}\n" for name in (PROFILE, *profiles)
            )
            (home / ".aws" / "config").write_text(sections)
            for file in (home / ".aws").iterdir():
                file.chmod(0o600)
            env = {
                name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "REDIS_", "BACKUP_"))
            }
            env |= {
                "HOME": str(home),
                "PATH": f"{folder}/bin:{os.environ['PATH']}",
                "DOCKER_CONFIG": os.environ.get("DOCKER_CONFIG", str(Path.home() / ".docker")),
                "WITH": "docker",
                "S3_URI": S3_URI,
                "BUCKET": BUCKET,
                "PREFIX": PREFIX,
                "AWS_PROFILE": PROFILE,
                "AWS_SDK_LOAD_CONFIG": "1",
            }
            if network:
                ask("docker", "network", "create", "dev_net")
            yield Scene(folder, env)
    finally:
        subprocess.run(
            ["sh", str(ROOT / "deploy/compose/with-docker.sh"), "clean"], capture_output=True, check=False, timeout=120
        )
        if network:
            ask("docker", "network", "rm", "dev_net")
        emptied(folder)


def tools(folder: Path) -> None:
    """Write a redis-cli that follows MOVED."""
    folder.mkdir()
    here = Path(shutil.which("redis-cli") or shutil.which("valkey-cli") or "valkey-cli")
    script = folder / "redis-cli"
    script.write_text(f'#!/bin/sh\nexec {here} -c "$@"\n')
    script.chmod(0o755)


def emptied(folder: Path) -> None:
    """Remove it with what containers wrote as root."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        ask(
            "docker",
            "run",
            "--rm",
            "-v",
            f"{folder}:/gone",
            "--entrypoint",
            "find",
            IMAGE,
            "/gone",
            "-mindepth",
            "1",
            "-delete",
        )
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Play it; return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    try:
        with stage() as scene:
            play(scene)
    except CannotError as why:
        sys.stderr.write(f"Cannot begin: {why}\n")
        return 3
    except AssertionError as why:
        where = traceback.extract_tb(why.__traceback__)[-1]
        sys.stderr.write(f"\nDoes not hold (line {where.lineno}: {where.line}): {why}\n")
        return 1
    sys.stdout.write(f"\nDocument 1 holds: sections 1 to 8, 10 and the appendix, in {time.monotonic() - began:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
