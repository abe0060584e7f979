"""What a file of secrets may not hold."""

from __future__ import annotations

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


def test_where_the_environment_wins_over_a_file_the_names_are_told_and_no_value(typed: Typed, tmp_path: Path) -> None:
    path = tmp_path / "secrets.env"
    path.write_text("REDIS_PASSWORD=of-the-file\nBACKUP_PASSPHRASE=the same in both\nBACKUP_NAME=only-here\n")
    path.chmod(0o600)
    here = {"REDIS_PASSWORD": "of-the-shell", "BACKUP_PASSPHRASE": "the same in both", "BACKUP_DIR": str(tmp_path)}
    for words in (("schedule", "status"), ("rehearse", "latest")):
        said = typed(*words, "--env-file", str(path), env=here).stderr
        assert said.splitlines()[0] == (f"Warning: set in the environment, which wins over {path}: REDIS_PASSWORD")
        assert "of-the" not in said
