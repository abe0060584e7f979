"""What is in a dump, as `pg_restore --list` tells it, and which of it belongs to a table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from understudy.backup.postgres.names import parts, qualified
from understudy.backup.postgres.tools import Access
from understudy.errors import IntegrityError

_LINE = re.compile(r"(?P<id>\d+); (?P<catalog>\d+) (?P<oid>\d+) (?P<rest>.*)")
_DEPENDS = re.compile(r";\s+depends on:(?P<ids>[\d ]*)")
# those of several words first: `TABLE` begins each of its own
_KINDS = (
    "TABLE DATA", "TABLE ATTACH", "MATERIALIZED VIEW DATA", "MATERIALIZED VIEW", "FOREIGN TABLE", "TABLE",
    "SEQUENCE OWNED BY", "SEQUENCE SET", "SEQUENCE", "CHECK CONSTRAINT", "FK CONSTRAINT", "CONSTRAINT",
    "INDEX ATTACH", "INDEX", "DEFAULT", "TRIGGER", "RULE", "POLICY", "ROW SECURITY", "COMMENT", "ACL",
    "SECURITY LABEL", "STATISTICS DATA", "STATISTICS", "EXTENSION", "SCHEMA", "TYPE", "DOMAIN", "FUNCTION",
)  # fmt: skip
_OF_A_TABLE = {
    "TABLE DATA", "CHECK CONSTRAINT", "FK CONSTRAINT", "CONSTRAINT", "INDEX", "DEFAULT", "TRIGGER", "RULE", "POLICY",
    "ROW SECURITY", "STATISTICS", "STATISTICS DATA", "SEQUENCE",
}  # fmt: skip
_ATTACHES = {"TABLE ATTACH", "INDEX ATTACH"}
_FOLLOWS = {"COMMENT", "ACL", "SECURITY LABEL", "SEQUENCE SET", "SEQUENCE OWNED BY", "STATISTICS DATA"}
_SETVAL = re.compile(r"^SELECT pg_catalog\.setval\('((?:[^']|'')*)', (-?\d+), (true|false)\);$", re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """One entry: its number in the dump, its kind, `schema name owner` as one text, and what it depends on."""

    number: int
    kind: str
    text: str
    depends_on: tuple[int, ...]
    line: str


def entries(access: Access, dump: Path) -> list[Entry]:
    """Return what a dump holds, in its order.

    Raises:
        IntegrityError: it cannot be read.
    """
    code, said, complaints = access.children.output([access.program("pg_restore"), "--list", "--verbose", dump])
    if code:
        raise unreadable(dump, complaints)
    found: list[Entry] = []
    for line in said.decode(errors="surrogateescape").splitlines():
        if match := _LINE.fullmatch(line):
            kind = next((each for each in _KINDS if match["rest"].startswith(f"{each} ")), "")
            found.append(Entry(int(match["id"]), kind, match["rest"][len(kind) :].lstrip(), (), line))
        elif found and (match := _DEPENDS.fullmatch(line)):
            last = found.pop()
            found.append(Entry(last.number, last.kind, last.text, tuple(map(int, match["ids"].split())), last.line))
    return found


def unreadable(dump: Path, complaints: str) -> IntegrityError:
    """Return the error for a dump that pg_restore cannot read, with what it said."""
    why = next((line for line in complaints.splitlines() if "error" in line), complaints.strip() or "nothing is said")
    return IntegrityError(
        f"reading {dump.name}", f"pg_restore cannot read it: {why.partition('error: ')[2] or why}", "Use another set."
    )


def select(found: Sequence[Entry], tables: Iterable[tuple[str, str]], owners: Iterable[str]) -> dict[int, Entry]:
    """Return the entries that belong to these tables: data, indexes, constraints, sequences of their own, …

    The partitions of a partitioned table come along. A table that the dump lacks has none.
    """
    by_number = {entry.number: entry for entry in found}
    known = set(owners)
    chosen: dict[int, Entry] = {}
    mine: dict[int, str] = {}  # of each chosen table its `schema name `, with which its constraints begin

    def add(entry: Entry) -> None:
        if entry.number in mine:
            return
        chosen[entry.number] = entry
        mine[entry.number] = entry.text[: -len(_owner(entry.text, known))]
        for other in found:  # partitions
            if other.kind == "TABLE ATTACH" and entry.number in other.depends_on:
                child = next((by_number[n] for n in other.depends_on if _names(by_number.get(n), other, known)), None)
                if child:
                    add(child)

    for schema, name in tables:
        start = f"{schema} {name} "
        candidates = [each for each in found if each.kind == "TABLE" and each.text.startswith(start)]
        exact = [each for each in candidates if each.text[len(start) :] in known]
        for entry in (exact or candidates)[:1]:
            add(entry)
    for entry in found:
        of = [number for number in entry.depends_on if number in mine]
        if entry.kind in _OF_A_TABLE and of and _belongs(entry, of, mine):
            chosen[entry.number] = entry
    for entry in found:
        if (entry.kind in _ATTACHES | _FOLLOWS) and any(number in chosen for number in entry.depends_on):
            chosen[entry.number] = entry
    return chosen


def table_of(entry: Entry, tables: Iterable[str], owners: Iterable[str]) -> tuple[str, str]:
    """Return schema and name of a TABLE entry: which of the recorded ones it is."""
    text = entry.text[: -len(_owner(entry.text, set(owners)))].rstrip()
    for title in tables:
        schema, name = parts(title)
        if text == f"{schema} {name}":
            return schema, name
    raise IntegrityError(f"reading a dump's table {text}", "the metadata does not name it", "Use another set.")


def title_of(entry: Entry, owners: Iterable[str]) -> str:
    """Return `schema name` of an entry, or the name alone where it stands in no schema."""
    text = entry.text.removeprefix("- ")
    return text.rstrip() if entry.kind == "EXTENSION" else text[: -len(_owner(text, set(owners)))].rstrip()


def _owner(text: str, known: set[str]) -> str:
    """Return the owner at the end of an entry's text."""
    fitting = [owner for owner in known if text.endswith(f" {owner}")]
    return max(fitting, key=len) if fitting else text.rpartition(" ")[2]


def _names(entry: Entry | None, attach: Entry, known: set[str]) -> bool:
    """Tell whether a table is the one that is attached: both begin with its schema and name."""
    if entry is None or entry.kind != "TABLE":
        return False
    return (
        entry.text[: -len(_owner(entry.text, known))].strip() == attach.text[: -len(_owner(attach.text, known))].strip()
    )


def _belongs(entry: Entry, of: list[int], mine: dict[int, str]) -> bool:
    """Tell whether an entry that depends on a chosen table is that table's own, and not another's that points to it."""
    if entry.kind in {"FK CONSTRAINT", "TRIGGER", "RULE", "POLICY"}:
        return any(entry.text.startswith(mine[number]) for number in of)
    return True


def dependencies(found: Sequence[Entry], chosen: dict[int, Entry]) -> dict[int, Entry]:
    """Return what the chosen entries need besides: types, functions, schemas, extensions; not other tables."""
    by_number = {entry.number: entry for entry in found}
    needed: dict[int, Entry] = {}
    waiting = [number for entry in chosen.values() for number in entry.depends_on]
    while waiting:
        entry = by_number.get(waiting.pop())
        if entry is None or entry.number in chosen or entry.number in needed or entry.kind in {"TABLE", "TABLE DATA"}:
            continue
        needed[entry.number] = entry
        waiting += entry.depends_on
    return needed


def write_list(chosen: Iterable[Entry], found: Sequence[Entry], place: Path) -> Path:
    """Write a file for `--use-list` that names these entries, in the dump's own order."""
    numbers = {entry.number for entry in chosen}
    lines = [entry.line for entry in found if entry.number in numbers]
    place.write_bytes("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"))
    return place


def sequence_values(access: Access, dump: Path) -> dict[str, list[object]]:
    """Return what a dump sets each sequence to: its last value, and whether that was given out.

    Sequences do not keep to snapshots: asked beside the dump they would tell something else.

    Raises:
        IntegrityError: the dump cannot be read.
    """
    wanted = [entry for entry in entries(access, dump) if entry.kind == "SEQUENCE SET"]
    if not wanted:
        return {}
    listed = write_list(wanted, wanted, access.children.directory / f"sequences-{dump.name}")
    code, said, complaints = access.children.output(
        [access.program("pg_restore"), f"--use-list={listed}", "--file=-", dump]
    )
    if code:
        raise unreadable(dump, complaints)
    found: dict[str, list[object]] = {}
    for name, value, called in _SETVAL.findall(said.decode(errors="replace")):
        schema, sequence = parts(name.replace("''", "'"))
        found[qualified(schema, sequence)] = [int(value), called == "true"]
    return found
