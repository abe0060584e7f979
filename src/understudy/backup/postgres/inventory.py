"""What a database holds, asked on one snapshot: what a dump of that snapshot must bring back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

from psycopg import sql

from understudy.backup.postgres.connection import Connection
from understudy.backup.postgres.names import qualified

_LO_CHUNK_BYTES = 1 << 20
# what people made: not the system's, and not an extension's, which brings its own
_OURS = """n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = 'CATALOG'::regclass AND d.objid = c.oid AND d.deptype = 'e')"""
_OF_TABLES = "JOIN pg_class c ON c.oid = x.OWNER JOIN pg_namespace n ON n.oid = c.relnamespace"
_RELATIONS = """SELECT n.nspname, c.relname, c.relkind, c.relispartition, c.oid, i.inhparent
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND c.relispartition
    WHERE c.relkind IN ('r', 'p', 'm', 'f', 'v', 'S') AND OURS ORDER BY 1, 2"""
_COUNTS = {
    "functions": "SELECT count(*) FROM pg_proc c JOIN pg_namespace n ON n.oid = c.pronamespace WHERE OURS",
    "indexes": "SELECT count(*) FROM pg_index x OF_TABLES(indrelid) WHERE OURS",
    "constraints": "SELECT count(*) FROM pg_constraint x OF_TABLES(conrelid)"
    " WHERE x.contype IN ('p', 'u', 'f', 'c', 'x') AND OURS",
    "triggers": "SELECT count(*) FROM pg_trigger x OF_TABLES(tgrelid) WHERE NOT x.tgisinternal AND OURS",
    "policies": "SELECT count(*) FROM pg_policy x OF_TABLES(polrelid) WHERE OURS",
}
# whoever the database's objects name; the bootstrap superuser, whom PostgreSQL leaves out there, where he owns one
_ROLES = """
    SELECT DISTINCT r.rolname FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid
    JOIN pg_database b ON b.datname = current_database()
    WHERE d.refclassid = 'pg_authid'::regclass
      AND (d.dbid = b.oid OR (d.classid = 'pg_database'::regclass AND d.objid = b.oid))
    UNION
    SELECT r.rolname FROM pg_roles r WHERE r.oid = 10 AND (
        EXISTS (SELECT FROM pg_class WHERE relowner = 10 AND oid >= 16384)
        OR EXISTS (SELECT FROM pg_proc WHERE proowner = 10 AND oid >= 16384)
        OR EXISTS (SELECT FROM pg_type WHERE typowner = 10 AND oid >= 16384)
        OR EXISTS (SELECT FROM pg_namespace WHERE nspowner = 10 AND oid >= 16384)
        OR EXISTS (SELECT FROM pg_largeobject_metadata WHERE lomowner = 10)
        OR EXISTS (SELECT FROM pg_database WHERE datdba = 10 AND datname = current_database()))
    ORDER BY 1
"""


def content_of(connection: Connection, counted: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """Return what the metadata records of a database's content; `counted` is called after each table.

    Tables and sequences go by `schema.name`. A partitioned table has the rows of its partitions together;
    those are named too, and `partitions` says which they are. Foreign tables are named and not counted: their rows
    are elsewhere.
    """
    connection.execute("SET row_security = off")  # rather an error than a count of the rows that we may see
    tables: dict[str, int] = {}
    partitions: list[str] = []
    others: dict[str, list[str]] = {"m": [], "f": [], "v": [], "S": []}
    parents: dict[int, int] = {}
    by_oid: dict[int, str] = {}
    for schema, name, kind, is_partition, oid, parent in connection.execute(_text(_RELATIONS, "pg_class")).fetchall():
        title = qualified(schema, name)
        if kind not in {"r", "p"}:
            others[kind].append(title)
            continue
        by_oid[oid] = title
        if is_partition:
            partitions.append(title)
            parents[oid] = parent
        tables[title] = 0
        if kind == "r":
            asked = sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(schema, name))
            row = connection.execute(asked).fetchone()
            tables[title] = row[0] if row else 0
            counted()
    for title, rows in _sums(tables, by_oid, parents).items():
        tables[title] += rows
    return {
        "tables": tables,
        "partitions": partitions,
        "materialized_views": others["m"],
        "foreign_tables": others["f"],
        "views": others["v"],
        "sequence_names": others["S"],
        "large_objects": large_objects(connection, counted),
        "extensions": dict(connection.execute("SELECT extname, extversion FROM pg_extension ORDER BY 1").fetchall()),
        "objects": {name: _count(connection, name) for name in _COUNTS},
    }


def _count(connection: Connection, what: str) -> int:
    row = connection.execute(_text(_COUNTS[what], "pg_proc" if what == "functions" else "pg_class")).fetchone()
    return int(row[0]) if row else 0


def _text(template: str, catalog: str) -> bytes:
    """Return a question from a fixed text; none of it comes from outside."""
    joined = re.sub(r"OF_TABLES\((\w+)\)", lambda found: _OF_TABLES.replace("OWNER", found[1]), template)
    return joined.replace("OURS", _OURS).replace("CATALOG", catalog).encode()


def _sums(tables: dict[str, int], by_oid: dict[int, str], parents: dict[int, int]) -> dict[str, int]:
    """Return for every partitioned table the rows of all that hang below it."""
    sums: dict[str, int] = {}
    for oid, parent in parents.items():
        above: int | None = parent
        while above is not None and above in by_oid:
            sums[by_oid[above]] = sums.get(by_oid[above], 0) + tables[by_oid[oid]]
            above = parents.get(above)
    return sums


def large_objects(connection: Connection, counted: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """Return how many large objects there are, and one SHA-256 over the numbers and contents of all."""
    digest = hashlib.sha256()
    number = 0
    with connection.cursor(name="large_objects") as cursor:
        cursor.itersize = 1000
        cursor.execute(
            "SELECT m.oid, length(c.data), sha256(c.data) FROM pg_largeobject_metadata m,"
            " LATERAL lo_get(m.oid, 0, %s) AS c(data) ORDER BY 1",
            [_LO_CHUNK_BYTES],
        )
        for oid, length, first in cursor:
            digest.update(b"%d:" % oid + first)
            at = _LO_CHUNK_BYTES
            while length == _LO_CHUNK_BYTES:
                row = connection.execute(
                    "SELECT length(c), sha256(c) FROM lo_get(%s::oid, %s, %s) AS c", [oid, at, _LO_CHUNK_BYTES]
                ).fetchone()
                length, rest = row or (0, b"")  # noqa: PLW2901 - the loop's own end
                digest.update(rest if length else b"")
                at += _LO_CHUNK_BYTES
            number += 1
            if number % 1000 == 0:
                counted()
    return {"count": number, "sha256": digest.hexdigest() if number else None}


def sequences(connection: Connection, names: list[tuple[str, str]]) -> dict[str, list[Any]]:
    """Return for each sequence its last value and whether that was given out."""
    found = {}
    for schema, name in names:
        asked = sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(schema, name))
        row = connection.execute(asked).fetchone()
        found[qualified(schema, name)] = list(row or ())
    return found


def roles_of(connection: Connection) -> list[str]:
    """Return the roles that the database's objects need; PostgreSQL's own are left out."""
    return [name for (name,) in connection.execute(_ROLES).fetchall() if not name.startswith("pg_")]
