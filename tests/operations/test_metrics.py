"""The metrics file is what Prometheus reads, replaced whole, and for everybody's eyes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from support import repository_root
from understudy.errors import UnreachableError
from understudy.operations.metrics import Figures, names, write


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@given(
    label=st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
    ),
    value=st.floats(allow_nan=False),
)
def test_any_label_and_any_value_are_read_as_they_were_put(label: str, value: float) -> None:
    figures = Figures()
    figures.put("understudy_backup_healthy", True, item=label, profile="local")
    figures.put("understudy_backup_set_bytes", value, tier=label)
    assert samples(figures.text()) == {
        ("understudy_backup_healthy", frozenset({("item", label), ("profile", "local")})): 1.0,
        ("understudy_backup_set_bytes", frozenset({("tier", label)})): value,
    }


def test_a_name_that_is_not_in_the_list_cannot_be_put() -> None:
    with pytest.raises(KeyError):
        Figures().put("understudy_backup_new", 1)


def test_none_is_no_figure() -> None:
    figures = Figures()
    figures.put("understudy_backup_duration_seconds", None, tier="daily")
    assert figures.text() == ""


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "understudy.prom"
    over = threading.Event()
    seen: set[str] = set()

    def read() -> None:
        while not over.is_set():
            seen.add(path.read_text())

    def filled(value: int) -> Figures:
        figures = Figures()
        for name in names():
            figures.put(name, value, tier="daily")
        return figures

    write(path, filled(0))
    reader = threading.Thread(target=read)
    reader.start()
    for value in range(1, 100):
        write(path, filled(value))
    over.set()
    reader.join()
    for text in seen:
        assert len(set(samples(text).values())) == 1, "half a file was seen"
        assert len(samples(text)) == len(names())
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_told_and_the_old_one_stays(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="metrics file"):
        write(tmp_path / "no" / "such.prom", Figures())


def test_every_name_stands_in_the_documentation_and_no_other() -> None:
    page = (repository_root() / "docs" / "watching.md").read_text()
    rows = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `understudy_")}
    assert rows == set(names())
