"""docs/ci.md says of fixtures, labs and inputs what the code says."""

from __future__ import annotations

import inspect
import re

import yaml

from support import repository_root
from understudy import lab, pytest_plugin

ROOT = repository_root()
PAGE = (ROOT / "docs" / "ci.md").read_text()


def rows(heading: str) -> list[list[str]]:
    table = PAGE.partition(f"| {heading} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_every_fixture_is_there_with_its_scope() -> None:
    said = {name: row[1] for row in rows("fixture") for name in re.findall(r"`(\w+)`", row[0])}
    found = {
        name: one._fixture_function_marker.scope
        for name, one in vars(pytest_plugin).items()
        if hasattr(one, "_fixture_function_marker")
    }
    assert said == found


def test_the_members_of_a_lab_are_called_as_it_says() -> None:
    for call in re.findall(r"`(\w+)(\([^`]*\))?`", " ".join(row[0] for row in rows("member"))):
        name, arguments = call
        if not arguments:
            assert name in lab.Lab.__dict__ or f"self.{name} = " in inspect.getsource(lab.Lab)
            continue
        parameters = list(inspect.signature(getattr(lab.Lab, name)).parameters.values())[1:]
        shown = [
            ("*" if one.kind is one.VAR_POSITIONAL else "") + one.name + ("=None" if one.default is None else "")
            for one in parameters
            if one.name not in ("within_s", "timeout_s")
        ]
        assert arguments == f"({', '.join(shown)})", name


def test_the_inputs_of_the_workflow_are_on_the_page() -> None:
    given = yaml.safe_load((ROOT / ".github" / "workflows" / "drill.yml").read_text())
    inputs = given[True]["workflow_call"]["inputs"]
    said = {name: row[1].strip("`") for row in rows("input") for name in re.findall(r"`([\w-]+)`", row[0])}
    defaults = {name: "needed" if one.get("required") else str(one["default"]) for name, one in inputs.items()}
    assert said == {name: value or "the scenario's" for name, value in defaults.items()}
