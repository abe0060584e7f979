"""What long work tells, where nobody looks at a terminal."""

from __future__ import annotations

import io

import pytest

from understudy import progress
from understudy.progress import Lines, stage


@pytest.mark.parametrize(
    ("unit", "amount", "says"), [("keys", 2500, "2,500 keys"), ("bytes", 3 << 20, "3.0 MiB,")], ids=["keys", "bytes"]
)
def test_a_line_tells_how_far_and_how_long_still(
    monkeypatch: pytest.MonkeyPatch, unit: str, amount: int, says: str
) -> None:
    clock = iter([0.0, 6.0, 7.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    out = io.StringIO()
    lines = Lines(out)
    with stage(lines, "Reading", amount * 2, unit):
        lines.advance(amount)
        lines.advance(1)  # too soon for another line
    assert out.getvalue().count("\n") == 1
    assert out.getvalue().startswith(f"Reading: {says}")
    assert "50 %, about 6 s left" in out.getvalue()


def test_work_of_unknown_size_tells_its_rate_only(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    out = io.StringIO()
    lines = Lines(out)
    with stage(lines, "Looking", None, "keys"):
        lines.advance(100)
    assert out.getvalue() == "Looking: 100 keys, 10/s\n"
