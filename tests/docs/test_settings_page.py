"""docs/settings.md names every setting and every option, and nothing that does not exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import AliasChoices

from support import repository_root
from understudy.cli.main import app
from understudy.settings import Settings

PAGE = (repository_root() / "docs" / "settings.md").read_text()
NOT_IN_THE_FILE = {"profile", "use_cluster"}
COMMANDS = typer.main.get_group(app).commands


def rows(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in text.splitlines()
        if line.startswith("| `")
    ]


def section(heading: str) -> str:
    return PAGE.partition(f"{heading}\n")[2].partition("\n## ")[0].partition("\n### ")[0]


def documented() -> dict[str, list[str]]:
    """Return the rows of settings by their environment names, as written."""
    return {row[0].replace("`", ""): row for row in rows(section("## Settings"))}


def written(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


def options(verb: str) -> set[str]:
    parameters = [one for one in COMMANDS[verb].params if one.param_type_name == "option"]
    names = {name for one in parameters for name in (*one.opts, *one.secondary_opts)}
    return {name for name in names if name.startswith("--")} - {"--help"}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_is_on_the_page_with_its_names_and_its_default(name: str) -> None:
    field = Settings.model_fields[name]
    alias = field.validation_alias
    names = [str(one) for one in alias.choices] if isinstance(alias, AliasChoices) else [str(alias)]
    row = documented().get(", ".join(names))
    assert row, f"docs/settings.md has no row for {names}"
    assert row[1] == ("–" if name in NOT_IN_THE_FILE else f"`{name.replace('_', '.', 1)}`")
    assert row[3] == written(field.default)


def test_the_page_names_no_setting_that_does_not_exist() -> None:
    known = {
        str(one)
        for field in Settings.model_fields.values()
        for alias in [field.validation_alias]
        for one in (alias.choices if isinstance(alias, AliasChoices) else [alias])
    }
    lab = [row for row in documented() if row.startswith(("UNDERSTUDY_", "NO_COLOR"))]
    named = {name for names in documented() if names not in lab for name in names.split(", ")}
    assert named == known


@pytest.mark.parametrize("verb", sorted(COMMANDS))
def test_the_page_names_the_options_of_a_command_and_no_others(verb: str) -> None:
    named = {name for row in rows(section(f"### `understudy {verb}`")) for name in re.findall(r"--[a-z0-9-]+", row[0])}
    assert named == options(verb)


def test_a_flag_of_a_setting_is_an_option_of_some_command() -> None:
    every = set().union(*(options(verb) for verb in COMMANDS))
    flags = {row[2].strip("`") for row in documented().values() if row[2].startswith("`--")}
    assert flags
    assert flags <= every


def test_the_example_file_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert example
    (tmp_path / "understudy.toml").write_text(example[1])
    monkeypatch.setenv("UNDERSTUDY_CONFIG", str(tmp_path / "understudy.toml"))
    for name in ("BACKUP_MAX_RATE", "REDIS_NODES"):
        monkeypatch.delenv(name, raising=False)
    for profile, rate in (("local", 0), ("dev", 0), ("prd", 50_000)):
        monkeypatch.setenv("ENV_PROFILE", profile)
        assert Settings().backup_max_rate == rate  # type: ignore[call-arg]
