"""Requirement document 3 played through: its two environments brought up by compose, and their failover tests run.

    .venv/bin/python tests/docker/document_3.py [ha] [cluster]

Needs a Docker engine on this machine, a compose command, a Valkey image (VALKEY_IMAGE, else valkey/valkey:9), `make
install`, and the ports of docker-compose.ha.yml and docker-compose.cluster.yml. Whatever it made it removes, also when
it fails or is interrupted. It ends with 0, or with 1 and what did not hold; 3 where it cannot begin.

MAX_DOWNTIME (6s) is what the drills allow a shard to be without a success; a busy machine needs more.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import stamina

from engine import compose, docker, server_image  # found by the line above
from understudy.errors import UnderstudyError
from understudy.lab import Lab, find
from understudy.valkey.connect import call_with_deadline, connect

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = {"ha": ("docker-compose.ha.yml", "ha"), "cluster": ("docker-compose.cluster.yml", "cluster3")}
LIMITS = ("--max-downtime", os.environ.get("MAX_DOWNTIME", "6s"), "--max-drift", os.environ.get("MAX_DRIFT", "250ms"))
_KEYS = 600
_WHOLE_WITHIN_S = 120.0
_RECOVERS_WITHIN_S = 60.0


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


def run(*words: str, within_s: float = 300) -> str:
    """Run a command, show it, and return what it printed; an error where it failed."""
    say(f"$ {' '.join(words)}")
    ran = subprocess.run(words, capture_output=True, text=True, check=False, timeout=within_s, cwd=ROOT)
    assert ran.returncode == 0, f"{' '.join(words)} ended with {ran.returncode}:\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def understudy(*words: str) -> str:
    """Type an understudy command."""
    return run(str(Path(sys.executable).parent / "understudy"), *words)


@contextlib.contextmanager
def environment(which: str) -> Iterator[str]:
    """Bring an environment up by compose (stories 1.1 and 2.1) and remove it; give its lab's name."""
    file, name = ENVIRONMENTS[which]
    words = [*compose(), "-p", name, "-f", file]
    try:
        run(*words, "up", "-d")
        await_whole(name)
        yield name
    finally:
        run(*words, "down", "--timeout", "1")
    left = docker("ps", "--all", "--quiet", "--filter", f"label=understudy.lab={name}")
    assert not left, f"containers are left: {left}"


def status(name: str) -> dict[str, Any]:
    """What `understudy status` says of the lab."""
    words = [str(Path(sys.executable).parent / "understudy"), "status", "--name", name, "--json"]
    said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    found: dict[str, Any] = json.loads(said)[0]
    return found


def await_whole(name: str) -> None:
    """Wait until every node runs and every server is where it belongs."""
    end = time.monotonic() + _WHOLE_WITHIN_S
    while True:
        with contextlib.suppress(UnderstudyError):
            find(name).heal(_WHOLE_WITHIN_S)
            break
        assert time.monotonic() < end, f"{name} is not whole after {_WHOLE_WITHIN_S:g} s"
        time.sleep(1)
    say(understudy("status", "--name", name))


def watch_a_kill(lab: Lab) -> None:
    """Kill a primary's container from outside while a client writes; what it wrote is there through the new primary.

    Tasks 1.3.2 to 1.3.4 and 2.3.4.
    """
    client = connect(lab.target(), decode_responses=True)
    primary = next(node for node in status(lab.name)["nodes"] if node["role"] == "primary")
    written: dict[str, str] = {}
    waits: list[float] = []
    over = threading.Event()
    problems: list[BaseException] = []

    def write() -> None:
        try:
            number = 0
            while not over.is_set():
                key, began = f"document-3:{number}", time.monotonic()
                call_with_deadline(lambda key=key: client.set(key, key), _RECOVERS_WITHIN_S)  # type: ignore[misc]
                waits.append(time.monotonic() - began)
                written[key] = key
                number += 1
                time.sleep(0.02)
        except BaseException as problem:  # noqa: BLE001 - raised below
            problems.append(problem)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        time.sleep(1.0)  # what is written before
        run("docker", "kill", primary["container"])
        end = time.monotonic() + _RECOVERS_WITHIN_S
        while not any(
            node["role"] == "primary" and node["state"] == "running" and node["name"] != primary["name"]
            and node["primary"] is None and (lab.layout == "sentinel" or node["slots"] == primary["slots"])
            for node in status(lab.name)["nodes"]
        ):  # fmt: skip
            assert time.monotonic() < end, "no replica was promoted"
            time.sleep(0.2)
        say(understudy("status", "--name", lab.name))
        time.sleep(2.0)  # and after
    finally:
        over.set()
        writer.join()
    if problems:
        raise AssertionError(f"the client did not come back: {problems[0]}") from problems[0]
    client.close()
    run("docker", "start", primary["container"])
    await_whole(lab.name)
    client = connect(lab.target(), decode_responses=True)  # read when everyone agrees again: what is there then stays
    missing = [key for key in written if call_with_deadline(lambda key=key: client.get(key)) != key]  # type: ignore[misc]
    client.close()
    say(f"{len(written)} writes, the slowest took {max(waits):.2f} s; {len(missing)} of them are not there")
    assert max(waits) > 0.2, "nobody noticed the kill"
    assert len(missing) <= len(written) // 10, f"lost: {missing[:10]} …"


def high_availability() -> None:
    """Epic 1."""
    with environment("ha") as name:
        drilled = understudy("drill", "ha", "--name", name, *LIMITS)
        say(drilled)
        assert "create, read, update and delete work in sentinel mode" in drilled
        watch_a_kill(find(name))


def cluster() -> None:
    """Epic 2."""
    with environment("cluster") as name:
        again = run("docker", "start", "--attach", "cluster-init")  # the set-up step changes nothing when repeated
        assert "It is one cluster already." in again, again
        drilled = understudy("drill", "cluster", "--name", name, *LIMITS)
        say(drilled)
        assert "answered MOVED" in drilled
        lab = find(name)
        client = connect(lab.target(), decode_responses=True)
        for number in range(_KEYS):
            client.set(f"shown:{number}", number)
        client.close()
        shards = [node for node in status(name)["nodes"] if node["role"] == "primary"]
        for node in shards:  # task 2.3.3
            say(f"{node['name']} serves {node['slots']:,} slots and holds {node['keys']:,} keys")
        assert sum(node["keys"] for node in shards) == _KEYS
        assert all(node["keys"] > _KEYS / 6 for node in shards)
        watch_a_kill(lab)


def main() -> int:
    """Play the document; return the exit code."""
    image, missing = server_image()
    if not image or not compose():
        say(f"cannot begin: {missing or 'there is no compose command'}")
        return 3
    os.environ["VALKEY_IMAGE"] = image
    stamina.instrumentation.set_on_retry_hooks([])  # what is tried again here is no news
    wanted = sys.argv[1:] or list(ENVIRONMENTS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory(prefix="document-3-") as home:
            os.environ["UNDERSTUDY_HOME"] = home
            for which in wanted:
                {"ha": high_availability, "cluster": cluster}[which]()
    except AssertionError as error:
        say(f"did not hold: {error}")
        return 1
    say("document 3 holds.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
