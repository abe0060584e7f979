"""What a file of secrets may not hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from understudy.errors import UsageError
from understudy.operations import env_file


@pytest.mark.parametrize("text", [b"BACKUP_NAME=a\0b\n", b"BACKUP_NAME='a\0b'\n", b"BACKUP_NAME='a\nb'\n", b"plain\n"])
def test_what_no_environment_can_hold_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "secrets.env"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(UsageError, match="it is not KEY=VALUE"):
        env_file.load(path)
