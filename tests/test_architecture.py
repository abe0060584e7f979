"""The house of DESIGN.md: imports go downwards, and no module is two things."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import understudy

SOURCE = Path(understudy.__file__).parent
FLOORS = {
    5: {"cli", "demo", "pytest_plugin", "__main__"},
    4: {"probe", "operations", "sale"},
    3: {"drill", "backup", "waitingroom"},
    2: {"lab"},
    1: {"valkey", "http", "pages"},
    0: {"settings", "errors", "installed", "progress", "__init__"},
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
# The two programs' front doors, and the command that shows the demo.
BESIDE = {("__main__", "cli"), ("cli", "demo")}
MODULES = sorted(SOURCE.rglob("*.py"))


def room_of(parts: tuple[str, ...]) -> str:
    return parts[0] if parts else "__init__"


def imported_by(module: Path) -> set[str]:
    """Return the rooms that a module imports from, also inside functions and for types only."""
    place = module.relative_to(SOURCE.parent).with_suffix("").parts
    rooms = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(place[: len(place) - node.level]) if node.level else ""
            base = ".".join(filter(None, [package, node.module]))
            # `from understudy import lab` names a room only in its second half.
            dotted = [f"{base}.{alias.name}" for alias in node.names] if base == "understudy" else [base]
        else:
            continue
        for name in dotted:
            top, *rest = name.split(".")
            if top == "understudy":
                rooms.add(rest[0] if rest and rest[0] in FLOOR else "__init__")
    return rooms


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(SOURCE)))
def test_a_module_imports_from_the_floors_below_its_own_and_is_not_two_things(module: Path) -> None:
    room = room_of(module.relative_to(SOURCE).with_suffix("").parts)
    assert room in FLOOR, f"{room} has no floor in DESIGN.md"
    wrong = {
        other
        for other in imported_by(module)
        if other != room and FLOOR[other] >= FLOOR[room] > 0 and (room, other) not in BESIDE
    }
    if FLOOR[room] == 0:
        wrong = {other for other in imported_by(module) if FLOOR[other] > 0}
    assert not wrong, f"{room} may not import from {', '.join(sorted(wrong))}"
    assert len(module.read_text().splitlines()) <= 400, "which two things is it?"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(SOURCE)))
def test_a_python_that_is_started_imports_nothing_from_the_current_directory(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.List | ast.Tuple) and node.elts and ast.unparse(node.elts[0]) == "sys.executable":
            assert {"'-P'", "'-I'"} & {ast.unparse(word) for word in node.elts}, ast.unparse(node)
