"""Files of big keys that somebody made who wants to do harm: refused before a server sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from understudy.backup.big.format import BigKey, commands
from understudy.errors import IntegrityError
from understudy.valkey.wire import pack

LINE = {"key": "k", "db": 0, "type": "zset", "expire_at_ms": None, "file": "f", "commands": 1, "length": 1, "bytes": 9}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("string", ["SET", "k", "v", "XX"]), ("string", ["APPEND", "k", "v", "w"]), ("hash", ["HSET", "k", "f"]),
        ("zset", ["ZADD", "k", "INCR", "1", "m"]), ("zset", ["ZADD", "k", "XX", "CH", "1", "m"]),
        ("stream", ["XADD", "k", "NOMKSTREAM", "1-1", "f", "v"]),
        ("stream", ["XADD", "k", "MAXLEN", "1", "*", "f", "v"]),
    ],
    ids=str,
)  # fmt: skip
def test_commands_with_options_that_we_never_write_are_refused(kind: str, words: list[str], tmp_path: Path) -> None:
    """A server takes them, and answers otherwise than to what builds a key."""
    data = pack(words)
    (tmp_path / "one.resp").write_bytes(data)
    with pytest.raises(IntegrityError, match="other words"):
        list(commands(tmp_path, BigKey(b"k", 0, kind, None, "one.resp", 1, 1, len(data))))


@pytest.mark.parametrize("change", [{"type": []}, {"type": {}}, {"file": ["f"]}, {"key": 5}], ids=str)
def test_a_line_of_other_shapes_is_refused_and_no_bug(change: dict[str, Any]) -> None:
    assert BigKey.from_data(LINE, "index").kind == "zset"
    with pytest.raises(IntegrityError):
        BigKey.from_data(LINE | change, "index")
