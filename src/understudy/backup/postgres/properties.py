"""What a database is, beside its content: encoding, locale, owner, limits, rights, settings; read, and made again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import sql

from understudy.backup.postgres.connection import Connection, major_of

_PROPERTIES = """
    SELECT pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, r.rolname, d.datconnlimit, d.datistemplate,
           shobj_description(d.oid, 'pg_database'), d.datacl IS NOT NULL
    FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE d.datname = current_database()
"""
_GRANTS = """
    SELECT coalesce(r.rolname, 'public'), a.grantee = 0, a.privilege_type, a.is_grantable
    FROM pg_database d, LATERAL aclexplode(d.datacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
    WHERE d.datname = current_database() ORDER BY 2, 1, 3
"""
_SETTINGS = """
    SELECT coalesce(r.rolname, ''), s.setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
    LEFT JOIN pg_roles r ON r.oid = s.setrole WHERE d.datname = current_database() ORDER BY 1
"""
_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}
# lists of names: their stored text is already quoted, and quoted once more it would be one name
_LISTS = {
    "local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries",
    "temp_tablespaces", "unix_socket_directories",
}  # fmt: skip


def read(connection: Connection) -> dict[str, Any]:
    """Return the properties of the database that we are connected to."""
    row = connection.execute(_PROPERTIES).fetchone()
    assert row is not None  # noqa: S101 - we are connected to it
    encoding, collate, ctype, owner, limit, template, comment, with_rights = row
    found: dict[str, Any] = {
        "encoding": encoding, "collate": collate, "ctype": ctype, "owner": owner, "connection_limit": limit,
        "is_template": template, "comment": comment,
        "provider": "libc", "locale": None, "icu_rules": None,
    }  # fmt: skip
    major = major_of(connection)
    if major >= 15:
        name = "datlocale" if major >= 17 else "daticulocale"
        asked = sql.SQL("SELECT datlocprovider, {}, {} FROM pg_database WHERE datname = current_database()").format(
            sql.Identifier(name), sql.Identifier("daticurules") if major >= 16 else sql.NULL
        )
        provider, found["locale"], found["icu_rules"] = connection.execute(asked).fetchone() or ("c", None, None)
        found["provider"] = _PROVIDERS.get(provider, "libc")
    # none at all means PostgreSQL's defaults; recorded as null, so that an empty list can mean that nobody may
    found["grants"] = [list(each) for each in connection.execute(_GRANTS).fetchall()] if with_rights else None
    found["settings"] = {role: list(pairs) for role, pairs in connection.execute(_SETTINGS).fetchall()}
    return found


def creation(name: str, properties: Mapping[str, Any], keep_locale: bool = True) -> sql.Composed:
    """Return CREATE DATABASE with the encoding and locale that were recorded."""
    words: list[sql.Composable] = [
        sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {}").format(
            sql.Identifier(name), sql.Literal(properties["encoding"])
        )
    ]
    if keep_locale:
        words.append(
            sql.SQL("LC_COLLATE {} LC_CTYPE {}").format(
                sql.Literal(properties["collate"]), sql.Literal(properties["ctype"])
            )
        )
        provider = properties.get("provider", "libc")
        if provider != "libc":
            words.append(sql.SQL("LOCALE_PROVIDER {}").format(sql.Identifier(provider)))
            option = "ICU_LOCALE" if provider == "icu" else "BUILTIN_LOCALE"
            words.append(sql.SQL("{} {}").format(sql.SQL(option), sql.Literal(properties["locale"])))
            if properties.get("icu_rules"):
                words.append(sql.SQL("ICU_RULES {}").format(sql.Literal(properties["icu_rules"])))
    else:
        words.append(sql.SQL("LC_COLLATE 'C' LC_CTYPE 'C'"))
    return sql.SQL(" ").join(words)


def locale_works(connection: Connection, properties: Mapping[str, Any]) -> bool:
    """Tell whether the server knows the recorded locale: asked by a collation that is rolled back."""
    provider = properties.get("provider", "libc")
    if provider == "builtin":
        return major_of(connection) >= 17
    wanted = {properties["collate"], properties["ctype"]} - {"C", "POSIX"}
    tries = [("libc", name) for name in wanted]
    if provider == "icu":
        tries.append(("icu", properties["locale"]))
    for kind, name in tries:
        try:
            with connection.transaction(force_rollback=True):
                connection.execute(
                    sql.SQL("CREATE COLLATION pg_temp.understudy (provider = {}, locale = {})").format(
                        sql.Identifier(kind), sql.Literal(name)
                    )
                )
        except psycopg.Error:
            return False
    return True


def apply(connection: Connection, name: str, properties: Mapping[str, Any]) -> list[str]:
    """Give a database the recorded limits, rights, settings and comment; return what could not be given."""
    target = sql.Identifier(name)
    statements: list[sql.SQL | sql.Composed] = []
    if properties["grants"] is not None:
        statements.append(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(target))
        for role, is_public, privilege, grantable in properties["grants"]:
            statements.append(
                sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(
                    sql.SQL(_privilege(privilege)), target,
                    sql.SQL("PUBLIC") if is_public else sql.Identifier(role),
                    sql.SQL(" WITH GRANT OPTION" if grantable and not is_public else ""),
                )
            )  # fmt: skip
    if properties.get("comment"):
        statements.append(sql.SQL("COMMENT ON DATABASE {} IS {}").format(target, sql.Literal(properties["comment"])))
    if properties["connection_limit"] >= 0:
        limit = sql.Literal(properties["connection_limit"])
        statements.append(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(target, limit))
    if properties["is_template"]:
        statements.append(sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(target))
    missed = []
    for statement in statements:
        try:
            connection.execute(statement)
        except psycopg.Error as error:
            missed.append(f"{statement.as_string(connection)}: {' '.join(str(error).split())}")
    for role, pairs in properties["settings"].items():
        for pair in pairs:
            missed += _set(connection, target, role, *pair.split("=", 1))
    return missed


def _privilege(text: str) -> str:
    return text if text in {"CREATE", "TEMPORARY", "CONNECT"} else "CONNECT"


def _set(connection: Connection, target: sql.Identifier, role: str, name: str, value: str) -> list[str]:
    whose = sql.SQL("DATABASE {}").format(target)
    if role:
        whose = sql.SQL("ROLE {} IN DATABASE {}").format(sql.Identifier(role), target)
    setting = sql.Identifier(*name.split("."))
    try:
        with connection.transaction():
            if name in _LISTS:
                connection.execute("SELECT set_config(%s, %s, true)", [name, value])
                connection.execute(sql.SQL("ALTER {} SET {} FROM CURRENT").format(whose, setting))
            else:
                connection.execute(sql.SQL("ALTER {} SET {} TO {}").format(whose, setting, sql.Literal(value)))
    except psycopg.Error as error:
        return [f"the setting {name} of {role or 'the database'}: {' '.join(str(error).split())}"]
    return []
