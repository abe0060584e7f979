"""Task: count the keys of some parts.

Plan: `directory`, `parts`, `match` (a glob or null), `count` (a `tally.Plan` as data). Result: a `Tally` as data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from understudy.backup.inspect.names import chosen
from understudy.backup.inspect.tally import Plan, Tally
from understudy.backup.record import decode, read_blocks
from understudy.valkey.glob import compile_glob


def run(plan: Mapping[str, Any], advance: Callable[[int], None]) -> dict[str, Any]:
    """Count everything that the plan names; see the module."""
    tally = Tally(Plan.from_data(plan["count"]))
    expression = compile_glob(plan["match"]) if plan["match"] is not None else None
    for part in plan["parts"]:
        with (Path(plan["directory"]) / part).open("rb") as file:
            for block in read_blocks(file, part):
                records = decode(block, part)
                read = len(records.keys)
                if expression:
                    fits = expression.fullmatch
                    records = chosen(records, [at for at, key in enumerate(records.keys) if fits(key)])
                if records.keys:
                    tally.add(records)
                advance(read)
    return tally.as_data()
