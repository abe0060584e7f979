"""The workflows: valid by the published schema, with every action pinned, and shell steps that do what they say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import repository_root

FOLDER = repository_root() / ".github" / "workflows"
VERDICT = {"verdict": {"word": "failed"}}
STANDIN = """#!/bin/sh
printf '%s\\n' "$@" > words
echo 'LEG   CLIENT'
[ -z "$NO_FINDINGS" ] && echo "$FINDINGS" > drill.json
exit "$CODE"
"""


def workflow(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    found["on"] = found.pop(True, None) or found.get("on")  # YAML 1.1 reads `on` as true
    return found


def test_they_are_what_github_takes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows",
         *FOLDER.glob("*.yml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yml")), ids=lambda path: path.stem)
def test_actions_are_pinned_rights_are_few_and_nothing_given_is_pasted_into_a_shell(path: Path) -> None:
    given = workflow(path.name)
    assert given["permissions"] == {"contents": "read"}
    for job in given["jobs"].values():
        for step in job.get("steps", []):
            assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+(\.\d+){0,2}|[0-9a-f]{40})", step.get("uses", "a/b@v1"))
            assert "${{" not in step.get("run", ""), "a value is handed over in the environment, where it stays a value"
        if "uses" in job:
            called = workflow(Path(job["uses"]).name)["on"]["workflow_call"]["inputs"]
            assert job["with"].keys() <= called.keys()
            assert {name for name, one in called.items() if one.get("required")} <= job["with"].keys()


def step(name: str) -> dict[str, Any]:
    steps: list[dict[str, Any]] = workflow("drill.yml")["jobs"]["drill"]["steps"]
    return next(one for one in steps if one.get("name") == name)


def carried_out(name: str, folder: Path, inputs: dict[str, str], **env: str) -> subprocess.CompletedProcess[str]:
    """Run a step's shell as the runner does, its expressions replaced by what was given or is the default."""
    declared = workflow("drill.yml")["on"]["workflow_call"]["inputs"]
    values = {key: str(one.get("default", "")) for key, one in declared.items()} | inputs
    handed = {
        key: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda match: values[match[1]], text)
        for key, text in step(name)["env"].items()
    }
    assert "${{" not in "".join(handed.values())
    whole = {
        "PATH": f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder),
        "GITHUB_OUTPUT": str(folder / "output"), "GITHUB_STEP_SUMMARY": str(folder / "summary"), **handed, **env,
    }  # fmt: skip
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step(name)["run"]],
        cwd=folder, env=whole, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def runner(tmp_path: Path) -> Path:
    (tmp_path / "understudy").write_text(STANDIN)
    (tmp_path / "understudy").chmod(0o755)
    return tmp_path


def test_the_gate_passes_on_what_was_asked_and_fails_with_the_drill(runner: Path) -> None:
    findings = json.dumps(VERDICT)
    asked = {"scenario": "drills/a b.toml", "max-downtime": "5s", "max-doubled": "0", "client": "valkey, patient"}
    done = carried_out("Drill", runner, asked, CODE="15", FINDINGS=findings, NO_FINDINGS="")
    assert done.returncode == 15, done.stderr
    assert (runner / "words").read_text().splitlines() == [
        "drill", "drills/a b.toml", "--runs", "1", "--json", "drill.json", "--html", "drill.html",
        "--max-downtime", "5s", "--max-doubled", "0", "--client", "valkey, patient",
    ]  # fmt: skip
    told = carried_out("Summary", runner, asked)
    assert told.returncode == 0, told.stderr
    assert (runner / "output").read_text() == "verdict=failed\n"
    assert "## Drill drills/a b.toml: failed" in (runner / "summary").read_text()
    assert "LEG   CLIENT" in (runner / "summary").read_text()


def test_a_drill_that_passes_lets_through_and_one_that_cannot_run_has_no_verdict(runner: Path) -> None:
    done = carried_out("Drill", runner, {}, CODE="0", FINDINGS="{}", NO_FINDINGS="")
    assert done.returncode == 0, done.stderr
    assert "--max" not in (runner / "words").read_text()
    (runner / "drill.json").unlink()
    assert carried_out("Drill", runner, {}, CODE="2", FINDINGS="", NO_FINDINGS="1").returncode == 2
    assert carried_out("Summary", runner, {}).returncode == 0
    assert (runner / "output").read_text() == "verdict=\n"
    assert "not run" in (runner / "summary").read_text()


def test_the_projects_own_workflow_does_what_the_command_does() -> None:
    jobs = workflow("ci.yml")["jobs"]
    assert jobs["check"]["steps"][-1] == {"run": ".ci/run"}
    assert (repository_root() / jobs["drill"]["with"]["scenario"]).is_file()
