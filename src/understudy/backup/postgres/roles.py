"""Roles of a set: those that the target lacks are created as they were; those that it has are left alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from understudy.backup.postgres.connection import Connection, is_superuser, short, told
from understudy.errors import NotAuthorisedError

_NAME = r'("(?:[^"]|"")*"|[^\s";]+)'
_ABOUT = (
    re.compile(rf"CREATE ROLE {_NAME}", re.DOTALL),
    re.compile(rf"ALTER ROLE {_NAME}\s", re.DOTALL),
    re.compile(rf"COMMENT ON ROLE {_NAME}\s", re.DOTALL),
)
_GRANT = re.compile(rf"GRANT {_NAME} TO {_NAME}", re.DOTALL)
_GRANTED_BY = re.compile(rf"\s+GRANTED BY {_NAME}\s*$")
# what only a superuser may say of a role, even where it says no
_FOR_SUPERUSERS = re.compile(r"\b(?:NO)?(?:SUPERUSER|REPLICATION|BYPASSRLS)\b ?")
_TOKEN = re.compile(
    r"""(?P<skipped>--[^\n]*|^\\[^\n]*)|(?P<text>[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*")|(?P<end>;)""",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Statement:
    """One statement of the globals, and the roles that it is about."""

    text: str
    roles: tuple[str, ...]
    creates: bool


def statements(text: str) -> Iterator[Statement]:
    """Split what pg_dumpall wrote; quoted texts may hold anything. Statements that are not about roles are left out."""
    current, at = "", 0
    for token in _TOKEN.finditer(text):
        current += text[at : token.start()]
        at = token.end()
        if token["text"]:
            current += token["text"]
        elif token["end"]:
            if found := _about(current.strip()):
                yield found
            current = ""


def _about(text: str) -> Statement | None:
    for pattern in _ABOUT:
        if found := pattern.match(text):
            return Statement(text, (_unquoted(found[1]),), text.startswith("CREATE"))
    if found := _GRANT.match(text):
        return Statement(text, (_unquoted(found[1]), _unquoted(found[2])), False)
    return None


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def existing(connection: Connection) -> set[str]:
    """Return the roles that the server has."""
    return {name for (name,) in connection.execute("SELECT rolname FROM pg_roles").fetchall()}


def missing(connection: Connection, globals_text: str, needed: Iterable[str], only_needed: bool) -> set[str]:
    """Return the roles that a restore would create: those that are needed and, unless told, all of the set's."""
    wanted = set(needed)
    if not only_needed:
        wanted |= {each.roles[0] for each in statements(globals_text) if each.creates}
    return {name for name in wanted - existing(connection) if not name.startswith("pg_")}


def check_rights(connection: Connection, absent: set[str], owners: Iterable[str], doing: str) -> None:
    """Refuse what would fail half-way: roles that we may not create, and owners that we cannot act for.

    Raises:
        NotAuthorisedError: with the statement that an administrator can run.
    """
    if is_superuser(connection):
        return
    row = connection.execute("SELECT rolcreaterole, rolname FROM pg_roles WHERE rolname = current_user").fetchone()
    may_create, user = row or (False, "")
    if absent and not may_create:
        some = ", ".join(sorted(absent)[:5])
        raise NotAuthorisedError(
            doing, f"roles that the set needs are missing ({some}), and {user} may create none",
            f"Have an administrator create them, or run: ALTER ROLE {_quoted(user)} CREATEROLE;",
        )  # fmt: skip
    for name in sorted(set(owners) - absent - {user}):
        asked = "SELECT pg_has_role(current_user, oid, 'MEMBER') FROM pg_roles WHERE rolname = %s"
        found = connection.execute(asked, [name]).fetchone()
        if found and not found[0]:
            raise NotAuthorisedError(
                doing, f"things in the set belong to the role {name}, and {user} is no member of it",
                f"Have an administrator run: GRANT {_quoted(name)} TO {_quoted(user)};",
            )  # fmt: skip


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


def create(connection: Connection, globals_text: str, absent: set[str]) -> list[str]:
    """Create roles as the set has them; return warnings.

    A role that the set's globals do not know is created without login. One of a name that exists is not touched:
    neither its password nor its rights.

    Raises:
        NotAuthorisedError: we may not.
    """
    warnings: list[str] = []
    known: set[str] = set()
    superuser = is_superuser(connection)
    found = list(statements(globals_text)) if absent else []
    for each in found:
        if each.creates and each.roles[0] in absent:
            _create(connection, each.roles[0])
            known.add(each.roles[0])
    for name in sorted(absent - known):
        _create(connection, name)
        warnings.append(f"The set's roles lack {name}; it was created without login.")
    if not superuser:
        for name in sorted(absent):
            _try(connection, sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(name)))
    for each in found:
        if each.creates or not absent.intersection(each.roles):
            continue
        texts = [each.text, _GRANTED_BY.sub("", each.text)]
        if each.text.startswith("ALTER ROLE"):
            texts.append(_FOR_SUPERUSERS.sub("", each.text))
        problems = [_run_first(connection, texts)]
        warnings += [f"The role {each.roles[0]}: {problem}" for problem in problems if problem]
    return warnings


def _create(connection: Connection, name: str) -> None:
    with told(f"creating the role {name}", "Use a superuser, or a role with CREATEROLE."):
        connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(name)))


def _run_first(connection: Connection, texts: Sequence[str]) -> str:
    """Run the first of these that works; return what the last said where none does."""
    problem = ""
    for text in dict.fromkeys(texts):
        if not (problem := _try(connection, text.encode())):
            return ""
    return problem


def _try(connection: Connection, statement: bytes | sql.Composed) -> str:
    try:
        with connection.transaction():
            connection.execute(statement)
    except psycopg.Error as error:
        return short(error)
    return ""
