"""A page needs nothing but itself, and whatever is put into it stays text."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from understudy.errors import UnreachableError
from understudy.pages.page import render, write

TEMPLATE = """{% extends "base.html" %}
{% from "parts.html" import verdict, figures, facts, table %}
{% block title %}{{ text }}{% endblock %}
{% block main %}{{ verdict("failed", text, [text]) }}{{ figures([(text, text, text)]) }}{{ facts([(text, text)]) }}
{{ table(text, [text, text], [[text, text]], numbers=(1,)) }}{% endblock %}
"""
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>'


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_text(TEMPLATE)
    return path


def test_hostile_values_stay_text_in_every_part(template: Path) -> None:
    page = render(template, text=HOSTILE)
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;") >= 10


def test_a_page_asks_nobody_for_anything(template: Path) -> None:
    page = render(template, text="x")
    assert not re.search(r'(?:src|href)=(?!"data:)', page)
    assert not re.search(r"@import|url\(", page)


def test_a_verdict_is_a_word_and_not_only_a_colour(template: Path) -> None:
    assert "<h2>Failed</h2>" in render(template, text="x")


def test_a_value_that_nobody_gave_is_an_error(template: Path) -> None:
    with pytest.raises(UndefinedError):
        render(template)


def test_a_page_replaces_the_older_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    place = tmp_path / "report.html"
    write(place, "old")
    write(place, "new ✓")
    assert place.read_text(encoding="utf-8") == "new ✓"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_pipe_is_written_into_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with open(os.open(pipe, os.O_RDWR), encoding="utf-8") as reader:  # noqa: PTH123
        write(pipe, "page\n")
        assert reader.readline() == "page\n"
    assert pipe.is_fifo()


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="nowhere"):
        write(tmp_path / "nowhere" / "report.html", "x")
