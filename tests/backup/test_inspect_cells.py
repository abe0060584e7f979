"""A line of CSV as a spreadsheet takes it: no formula, and nothing where there is nothing to say."""

from __future__ import annotations

import csv
import io

import pytest

from understudy.backup.inspect.export import write_csv
from understudy.backup.inspect.listing import Row
from understudy.backup.inspect.values import Readable


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\uff1d1", "\uff20x"])
def test_a_name_is_no_formula_and_no_error_is_an_empty_cell(name: str) -> None:
    out = io.BytesIO()
    write_csv([Row(name.encode(), 0, "string", 3, None, value=Readable("x", 1))], out, True)
    _, cells = csv.reader(io.StringIO(out.getvalue().decode()))
    assert (cells[0], cells[-1]) == (f"'{name}", "")
