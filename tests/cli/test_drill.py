"""`understudy drill`: as a user types it, from the exit code to what is left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import Typed
from support import eventually
from understudy.drill import scenario
from understudy.lab import Lab

pytestmark = pytest.mark.long(70)
QUICK = ("--after", "5s", "--rate", "60", "--max-drift", "5s")  # others use this machine meanwhile


def descendants(pid: int) -> list[str]:
    """Every process below one, by its id and its start, so that a later one of the same id is another."""
    said = subprocess.check_output(["ps", "-ww", "-eo", "pid=,ppid=,lstart=,args="], text=True)
    rows = [line.split(None, 2) for line in said.splitlines()]
    found, below = [], {str(pid)}
    while below:
        children = [(one, rest) for one, parent, rest in rows if parent in below]
        found += [f"{one} {rest}" for one, rest in children if "ps -ww" not in rest]
        below = {one for one, _ in children}
    return found


def still_there(processes: list[str]) -> list[str]:
    said = subprocess.check_output(["ps", "-ww", "-eo", "pid=,lstart=,stat=,args="], text=True)
    alive = {" ".join(line.split()[:6]) for line in said.splitlines() if line.split()[6][0] != "Z"}
    return [one for one in processes if " ".join(one.split()[:6]) in alive]


def test_the_exit_code_is_a_gate_and_the_findings_are_data_and_a_page(typed: Typed, tmp_path: Path) -> None:
    told, page, kept = tmp_path / "found.json", tmp_path / "page.html", tmp_path / "kept"
    done = typed(
        "drill", "cluster", "--fault", "kill", "--max-downtime", "1ms", *QUICK,
        "--json", str(told), "--html", str(page), "--history", str(kept), timeout_s=90,
    )  # fmt: skip
    assert done.returncode == 15, done.stderr
    assert "0.001 s" in done.stdout or "1 ms" in done.stdout
    found = json.loads(told.read_text())
    assert found["verdict"]["word"] == "failed"
    assert "recommended" in page.read_text()

    (history,) = kept.iterdir()
    again = typed("drill", "--check", str(history), "--max-downtime", "10s", "--max-drift", "5s", "--json", "-")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["verdict"]["word"] == "passed"
    assert typed("drill", "--check", str(history), "--max-downtime", "1ms").returncode == 15


def test_with_a_sane_budget_the_same_drill_passes(typed: Typed) -> None:
    done = typed(
        "drill", "cluster", "--fault", "kill", "--max-downtime", "10s", "--max-lost", "50", *QUICK, timeout_s=90
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout.lower()
    folder = done.stdout.rsplit("Histories: ", 1)[1].splitlines()[0]
    assert [path.name for path in Path(folder).iterdir()] == ["cluster.history.gz"]
    assert "drills' are kept: 1 drill, " in done.stdout
    cleaned = typed("clean", "--all").stdout
    assert "Histories stay, and nothing needs them: 1 drill, " in cleaned
    assert f" in {Path(folder).parent}." in cleaned


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)])
def test_an_interrupted_drill_leaves_nothing(understudy_home: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "understudy", "drill", "cluster", "--fault", "pause", "--hold", "60s", *QUICK],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr
        said: list[str] = []
        while "paused node-1\n" not in said:
            said.append(process.stderr.readline())
            assert said[-1], said
        started = descendants(process.pid)
        assert sum("valkey-server" in one for one in started) == 6
        assert sum("understudy.drill.workload" in one for one in started) == 4
        process.send_signal(number)
        _, rest = process.communicate(timeout=30)
        assert process.returncode == 128 + number
        assert "Traceback" not in rest
        eventually(lambda: not still_there(started))


@pytest.fixture
def running(typed: Typed, port: str) -> dict[str, Any]:
    done = typed("up", "sentinel", "--name", "mine", "--port", port, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_drill_in_a_running_lab_leaves_it_whole_and_empty(typed: Typed, running: dict[str, Any]) -> None:
    done = typed("drill", "ha", "--name", "mine", *QUICK, "--max-lost", "9999", timeout_s=120)
    assert done.returncode == 0, done.stdout + done.stderr
    status = json.loads(typed("status", "--name", "mine", "--json").stdout)
    (lab,) = status if isinstance(status, list) else [status]
    assert lab["state"] == "running"
    assert {node["keys"] for node in lab["nodes"] if node["role"] in {"primary", "replica"}} == {0}
    assert sum(node["role"] == "primary" for node in lab["nodes"]) == 1
    other = typed("drill", "cluster", "--name", "mine")
    assert other.returncode == 2
    assert "sentinel" in other.stderr


def test_an_interrupted_drill_in_a_running_lab_leaves_no_key_in_it(typed: Typed, running: dict[str, Any]) -> None:
    with subprocess.Popen(
        [
            sys.executable, "-m", "understudy", "drill", "ha", "--name", "mine",
            "--fault", "pause", "--hold", "60s", *QUICK,
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr
        said = ""
        while "paused" not in said:
            said = process.stderr.readline()
            assert said
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=90)
        assert process.returncode == 130
    (lab,) = json.loads(typed("status", "--name", "mine", "--json").stdout)
    assert lab["state"] == "running"
    assert {node["keys"] for node in lab["nodes"] if node["role"] in {"primary", "replica"}} == {0}


def test_a_users_own_client_from_the_settings_file(typed: Typed, tmp_path: Path) -> None:
    config = tmp_path / "understudy.toml"
    settings = "base = 'recommended'\ndeadline_s = 4\nsettings = { socket_timeout = 1.0 }"
    config.write_text(f"[drill.client.mine]\n{settings}\n")
    done = typed(
        "drill", "ha", "--fault", "kill-clients", "--client", "mine", "--after", "2s", "--max-drift", "5s",
        "--json", "-",
        env={"UNDERSTUDY_CONFIG": str(config)}, timeout_s=90,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "socket_timeout = 1.0" in done.stdout


def test_runs_are_repeated_and_told_as_least_median_and_most(typed: Typed, tmp_path: Path) -> None:
    own = tmp_path / "quick.toml"
    own.write_text(
        "about = 'Quick.'\nlayout = 'standalone'\nclients = ['recommended']\n"
        "[fault]\nkind = 'pause'\nhold_s = 0.5\n[workload]\nbefore_s = 1\nafter_s = 1\nidle_after_s = 1\n"
    )
    done = typed("drill", str(own), "--runs", "2", "--json", "-", timeout_s=90)
    assert done.returncode == 0, done.stdout + done.stderr
    (leg,) = json.loads(done.stdout)["legs"]
    assert len(leg["runs"]) == 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("cluser",), 11, "matrix"),
        (("cluster", "--fault", "flood"), 2, "kill"),
        (("cluster", "--max-downtime", "soon"), 2, "soon"),
        (("cluster", "--set", "speed"), 2, "name=value"),
        (("cluster", "--client", "nobody"), 11, "recommended"),
        (("cluster", "--name", "nobody"), 11, "nobody"),
        (("cluster", "--check", "x.gz"), 2, "limits only"),
        (("--check", "nowhere.gz"), 11, "no such file"),
        (("cluster", "--html", "nowhere/page.html"), 2, "directory"),
        (("cluster", "--json", "/"), 2, "directory"),
        (("cluster", "--html", "-"), 2, "file"),
        (("--max-lost", "0"), 2, "no scenario"),
        (("--check", "x.gz", "--runs", "3"), 2, "limits only"),
        (("cluster", "--rate", "-1"), 2, "rate"),
    ],
)
def test_nonsense_is_refused_before_anything_is_started(
    typed: Typed, understudy_home: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    done = typed("drill", *words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert not list((understudy_home / "labs").glob("*")) if (understudy_home / "labs").exists() else True


def test_an_error_is_data_where_data_was_asked_for(typed: Typed) -> None:
    done = typed("drill", "cluser", "--json", "-")
    assert done.returncode == 11
    assert json.loads(done.stdout)["error"] == "NotFoundError"


def test_a_leg_that_cannot_be_run_does_not_take_the_others_away(typed: Typed, tmp_path: Path) -> None:
    own = tmp_path / "two.toml"
    own.write_text(
        "layout = 'standalone'\nclients = ['recommended']\n[workload]\nbefore_s = 1\nafter_s = 1\n"
        "[budget]\nmax_drift_ms = 5000\n"
        "[[legs]]\nname = 'refused'\nfault = { kind = 'kill', nodes = ['replica'] }\n"
        "[[legs]]\nname = 'run'\nfault = { kind = 'kill-clients' }\n"
    )
    page = tmp_path / "page.html"
    done = typed("drill", str(own), "--json", "-", "--html", str(page), timeout_s=90)
    assert done.returncode == 15
    refused, ran = json.loads(done.stdout)["legs"]
    assert refused["verdict"]["word"] == "unknown"
    assert "no replica" in refused["verdict"]["reasons"][0]
    assert ran["verdict"]["word"] == "passed", ran["verdict"]
    assert "no replica" in page.read_text()


def test_a_terminal_that_knows_ascii_only_is_written_to(typed: Typed) -> None:
    env = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    assert typed("drill", "--list", env=env).returncode == 0


def test_a_file_that_is_no_history_is_refused_as_damaged(typed: Typed, tmp_path: Path) -> None:
    path = tmp_path / "x.history.gz"
    path.write_bytes(b"nothing of ours")
    assert typed("drill", "--check", str(path)).returncode == 12


def test_the_list_names_scenarios_and_clients(typed: Typed) -> None:
    said = typed("drill", "--list").stdout
    for word in (*scenario.names(), "recommended", "glide/defaults"):
        assert word in said


def test_the_history_of_a_lab_object_can_be_made_from_python(valkey_standalone: Lab, tmp_path: Path) -> None:
    from understudy.drill.conduct import conduct
    from understudy.drill.scenario import load
    from understudy.progress import Silent

    own = tmp_path / "own.toml"
    own.write_text(
        "layout = 'standalone'\nclients = ['one-try']\n[fault]\nkind = 'kill-clients'\n"
        "[workload]\nbefore_s = 1\nafter_s = 1\nidle_after_s = 1\n"
    )
    report = conduct(load(str(own)), tmp_path, Silent(), place=valkey_standalone)
    (leg,) = report.legs
    assert leg.runs[0].clients[0].name == "one-try"
    assert valkey_standalone.call("node-1", "DBSIZE") == 0
