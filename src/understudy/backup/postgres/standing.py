"""What stands in a database before a restore replaces it: everything that is anybody's own, tables or not."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from understudy.backup.postgres.connection import Connection, Server
from understudy.backup.postgres.names import qualified
from understudy.pages.figures import count, size

_TABLES = """
    SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""
# From this number on objects are people's: what a new database holds lies below (FirstNormalObjectId). What an
# extension made is the extension's, but for its tables, in which there may be rows of people's.
_OWN = """
    WITH found(kind, catalog, oid, bytes) AS (
        SELECT CASE c.relkind WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' WHEN 'v' THEN 'view'
                WHEN 'S' THEN 'sequence' WHEN 'c' THEN 'type' ELSE 'table' END,
            'pg_class'::regclass, c.oid, CASE WHEN c.relkind IN ('r', 'm') THEN pg_total_relation_size(c.oid) ELSE 0 END
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'm', 'f', 'v', 'S', 'c') AND n.nspname !~ '^pg_'
        UNION ALL SELECT 'large object', 'pg_largeobject'::regclass, oid, 0 FROM pg_largeobject_metadata
        UNION ALL SELECT 'function', 'pg_proc'::regclass, p.oid, 0
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname !~ '^pg_temp'
        UNION ALL SELECT 'type', 'pg_type'::regclass, t.oid, 0
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
        WHERE (t.typtype IN ('d', 'e', 'r') OR t.typtype = 'b' AND t.typelem = 0) AND n.nspname !~ '^pg_'
        UNION ALL SELECT 'schema', 'pg_namespace'::regclass, oid, 0 FROM pg_namespace
        WHERE nspname !~ '^pg_' AND nspname <> 'public'
        UNION ALL SELECT 'other object', 'pg_event_trigger'::regclass, oid, 0 FROM pg_event_trigger
        UNION ALL SELECT 'other object', 'pg_publication'::regclass, oid, 0 FROM pg_publication
        UNION ALL SELECT 'other object', 'pg_foreign_data_wrapper'::regclass, oid, 0 FROM pg_foreign_data_wrapper
        UNION ALL SELECT 'other object', 'pg_language'::regclass, oid, 0 FROM pg_language
        UNION ALL SELECT 'other object', 'pg_operator'::regclass, oid, 0 FROM pg_operator
        UNION ALL SELECT 'other object', 'pg_collation'::regclass, oid, 0 FROM pg_collation
        UNION ALL SELECT 'other object', 'pg_ts_config'::regclass, oid, 0 FROM pg_ts_config
        UNION ALL SELECT 'other object', 'pg_ts_dict'::regclass, oid, 0 FROM pg_ts_dict
        UNION ALL SELECT 'other object', 'pg_cast'::regclass, oid, 0 FROM pg_cast
        UNION ALL SELECT 'other object', 'pg_default_acl'::regclass, oid, 0 FROM pg_default_acl)
    SELECT kind, count(*), sum(bytes) FROM found f
    WHERE (oid >= 16384 OR kind = 'large object') AND (kind = 'table' OR NOT EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = f.catalog AND d.objid = f.oid AND d.deptype = 'e'))
    GROUP BY kind
"""
_ORDER = (
    "table", "materialized view", "large object", "sequence", "view", "foreign table", "function", "type", "schema",
    "other object",
)  # fmt: skip


@dataclass(frozen=True)
class Held:
    """How many of each kind a database holds, and the bytes of its tables, materialized views and large objects."""

    kinds: tuple[tuple[str, int], ...]
    bytes: int

    def __str__(self) -> str:
        return ", ".join([*(count(number, kind) for kind, number in self.kinds), size(self.bytes)])


def held(server: Server, name: str) -> Held | None:
    """Return what a database holds of anybody's own; None where it is as empty as a new one."""
    with server.connect(name) as connection:
        rows = {kind: (number, int(taken)) for kind, number, taken in connection.execute(_OWN).fetchall()}
        if not rows:
            return None
        taken = sum(each for _, each in rows.values())
        if "large object" in rows:
            row = connection.execute("SELECT pg_total_relation_size('pg_largeobject')").fetchone()
            taken += int(row[0]) if row else 0
    return Held(tuple((kind, rows[kind][0]) for kind in _ORDER if kind in rows), taken)


def tables(connection: Connection) -> set[str]:
    """Return the tables that stand in a database, as `schema.name`."""
    return {qualified(schema, name) for schema, name in connection.execute(_TABLES).fetchall()}


def rows_of(connection: Connection, table: tuple[str, str]) -> int:
    """Return how many rows a table has."""
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(*table))).fetchone()
    return int(row[0]) if row else 0
