"""What a file of secrets may not hold."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from conftest import Typed
from understudy.errors import UsageError
from understudy.operations import env_file


@pytest.mark.parametrize("text", [b"BACKUP_NAME=a\0b\n", b"BACKUP_NAME='a\0b'\n", b"BACKUP_NAME='a\nb'\n", b"plain\n"])
def test_what_no_environment_can_hold_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "secrets.env"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(UsageError, match="it is not KEY=VALUE"):
        env_file.load(path)


@pytest.mark.parametrize(
    "value",
    [
        r"'it'\''s secret'", r""" 'it'"'"'s' """.strip(), "'a b'", '"a \\"b\\" c"', "'a' # a comment", "'a#b'",
        "'$HOME `x` \\\\'", "'a'#b", """'"'""", "''", '"it\'s"', "'a'b\"c\"",
    ],
)  # fmt: skip
def test_a_value_in_quotes_is_what_a_shell_makes_of_it(tmp_path: Path, value: str) -> None:
    path = tmp_path / "secrets.env"
    path.write_text(f"SECRET={value}\n")
    path.chmod(0o600)
    shell = subprocess.run(
        ["sh", "-c", '. "$1"; printf %s "$SECRET"', "sh", str(path)], capture_output=True, text=True, check=True
    )
    assert env_file.read(path) == {"SECRET": shell.stdout}


@pytest.mark.parametrize("value", ["'it's secret'", "'a", '"a', "'a' b", "'a';b"])
def test_a_quote_that_is_not_closed_is_refused_with_how_to_write_it(tmp_path: Path, value: str) -> None:
    path = tmp_path / "secrets.env"
    path.write_text(f"SECRET={value}\n")
    path.chmod(0o600)
    with pytest.raises(UsageError, match="a quote is not closed, or more stands after it") as refused:
        env_file.read(path)
    assert r"KEY='it'\''s secret'" in refused.value.hint


def test_where_the_environment_wins_over_a_file_the_names_are_told_and_no_value(typed: Typed, tmp_path: Path) -> None:
    path = tmp_path / "secrets.env"
    path.write_text("REDIS_PASSWORD=of-the-file\nBACKUP_PASSPHRASE=the same in both\nBACKUP_NAME=only-here\n")
    path.chmod(0o600)
    here = {"REDIS_PASSWORD": "of-the-shell", "BACKUP_PASSPHRASE": "the same in both", "BACKUP_DIR": str(tmp_path)}
    for words in (("schedule", "status"), ("rehearse", "latest")):
        said = typed(*words, "--env-file", str(path), env=here).stderr
        assert said.splitlines()[0] == (f"Warning: set in the environment, which wins over {path}: REDIS_PASSWORD")
        assert "of-the" not in said
