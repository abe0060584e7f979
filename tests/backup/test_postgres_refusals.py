"""What cannot work is told before anything is written, with what to do next; and nothing secret is told."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import psycopg
import pytest

from backup_of_postgres import restored, taken
from conftest import Typed
from postgres import ask, create_database, drop_databases, names_of
from understudy.backup.component import RestoreOptions
from understudy.backup.components.postgres import PostgresComponent
from understudy.backup.postgres import roles, swap
from understudy.backup.postgres.connection import Server
from understudy.backup.postgres.tools import choose
from understudy.errors import IntegrityError, NotAuthorisedError, RefusedError, UnreachableError, UsageError
from understudy.lab.servers.postgres import ScratchPostgres, scratch_postgres
from understudy.lab.servers.postgres_install import installations
from understudy.progress import Silent

WHOLE = RestoreOptions()


def test_a_server_that_does_not_answer_a_wrong_password_and_a_missing_database_are_told_apart(
    postgres_18: ScratchPostgres, typed: Typed, tmp_path: Path
) -> None:
    secret = "hunter2-planted"
    cases = {
        "postgresql://postgres@127.0.0.1:1/app": (10, "UnreachableError", "pg_isready"),
        postgres_18.url(password=secret): (10, "NotAuthorisedError", "POSTGRES_PASSWORD"),
        postgres_18.url().replace(f":{postgres_18.password}@", "@"): (10, "NotAuthorisedError", "load the file"),
        postgres_18.url("nowhere"): (11, "NotFoundError", "POSTGRES_DATABASES"),
        f"postgresql://postgres:{secret}/x@127.0.0.1/app": (2, "UsageError", "5432"),
    }
    for url, (code, kind, hint) in cases.items():
        env = {"POSTGRES_URL": url, "BACKUP_DIR": str(tmp_path / "sets")}
        done = typed("backup", "--json", "--component", "postgres", env=env)
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert kind in said
        assert hint in said
        assert secret not in said
        assert postgres_18.password not in said
    assert list((tmp_path / "sets").glob("*-*")) == []


def test_an_older_server_is_refused_and_left_as_it_was(
    postgres_16: ScratchPostgres, postgres_18: ScratchPostgres, database: str, typed: Typed, tmp_path: Path
) -> None:
    ask(postgres_18, "CREATE TABLE t AS SELECT 1 AS n", database)
    taken(postgres_18, tmp_path, database)
    before = names_of(postgres_16)
    env = {"POSTGRES_URL": postgres_16.url(), "BACKUP_DIR": str(tmp_path)}
    for words in ([], ["--dry-run"]):
        done = typed("restore", "--component", "postgres", *words, env=env)
        assert done.returncode == 12, done.stderr
        assert "taken from PostgreSQL 18.4, and the target is 16.14" in done.stderr
        assert "Restore to PostgreSQL 18 or newer" in done.stderr
    assert names_of(postgres_16) == before


def test_programs_that_are_older_than_the_server_are_refused_with_what_to_install(
    postgres_16: ScratchPostgres, postgres_18: ScratchPostgres, database: str, typed: Typed, tmp_path: Path
) -> None:
    env = {"POSTGRES_URL": postgres_18.url(database), "BACKUP_DIR": str(tmp_path), "POSTGRES_BIN": str(postgres_16.bin)}
    done = typed("backup", "--component", "postgres", env=env)
    assert done.returncode == 2
    assert "needs the programs of PostgreSQL 18 or newer, and POSTGRES_BIN names 16.14" in done.stderr
    with pytest.raises(UnreachableError, match="here are only") as caught:
        choose(99, None, "backing up")
    assert "postgresql-client-99" in caught.value.hint
    with pytest.raises(UsageError, match="no pg_dump that runs"):
        choose(16, tmp_path, "backing up")


def test_the_systems_programs_are_used_where_they_are_new_enough(postgres_18: ScratchPostgres) -> None:
    system = [each for each in installations() if each.origin == "system" and each.dumps]
    if not system:
        pytest.skip("no PostgreSQL of the system's is here")
    assert choose(system[0].major, None, "backing up") == system[0]
    too_new = max(each.major for each in system) + 1
    if too_new <= 18:
        assert choose(too_new, None, "backing up").origin == "wheel"


def test_rights_that_are_missing_are_told_with_the_statement_that_gives_them(
    postgres_18: ScratchPostgres, database: str, tmp_path: Path
) -> None:
    ask(postgres_18, "CREATE ROLE weak LOGIN PASSWORD 'w'; CREATE ROLE owner_of_it", database)
    ask(postgres_18, "CREATE TABLE t AS SELECT 1 AS n; ALTER TABLE t OWNER TO owner_of_it", database)
    try:
        backup = taken(postgres_18, tmp_path, database)
        weak = PostgresComponent(postgres_18.url(user="weak", password="w"))
        with pytest.raises(NotAuthorisedError, match="may not create databases") as caught:
            weak.check_target(backup, WHOLE)
        assert 'ALTER ROLE "weak" CREATEDB' in caught.value.hint
        ask(postgres_18, "ALTER ROLE weak CREATEDB")
        with pytest.raises(NotAuthorisedError, match="no member of it") as caught:
            weak.check_target(backup, WHOLE)
        assert "GRANT owner_of_it TO weak;" in caught.value.hint
        drop_databases(postgres_18, database)
        ask(postgres_18, "DROP ROLE owner_of_it")
        with pytest.raises(NotAuthorisedError, match=r"missing \(owner_of_it\)") as caught:
            weak.check_target(backup, WHOLE)
        assert "ALTER ROLE weak CREATEROLE;" in caught.value.hint
        weak.close()
    finally:
        drop_databases(postgres_18, database)
        ask(postgres_18, "DROP ROLE IF EXISTS weak; DROP ROLE IF EXISTS owner_of_it")


def test_an_owner_without_superuser_backs_up_and_restores_what_is_his(
    postgres_18: ScratchPostgres, tmp_path: Path
) -> None:
    ask(postgres_18, "CREATE ROLE mine LOGIN PASSWORD 'm' CREATEDB")
    ask(postgres_18, "CREATE DATABASE mine OWNER mine")
    try:
        with psycopg.connect(postgres_18.url("mine", user="mine", password="m")) as connection:
            connection.execute("CREATE TABLE t (n serial); INSERT INTO t SELECT FROM generate_series(1, 9)")
            connection.execute("SELECT lo_from_bytea(0, 'mine')")
        component = PostgresComponent(postgres_18.url("mine", user="mine", password="m"))
        from understudy.backup.repositories.local import LocalRepository
        from understudy.backup.take import take

        backup = take([component], LocalRepository(tmp_path), None, "local", Silent()).backup
        assert "passwords of roles" in backup.metadata.components["postgres"]["warnings"][0]
        assert "SCRAM" not in (backup.directory / "postgres/globals.sql").read_text()
        ask(postgres_18, "DELETE FROM t", "mine")
        assert restored(component, backup) == []
        assert component.compare(backup, Silent()).differences == ()
        # rows that a policy hides are no backup
        ask(postgres_18, "CREATE TABLE hidden (n int); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY", "mine")
        ask(postgres_18, "GRANT SELECT ON hidden TO mine", "mine")
        with pytest.raises(NotAuthorisedError) as caught:
            take([component], LocalRepository(tmp_path), None, "local", Silent())
        assert "BYPASSRLS" in caught.value.hint
        component.close()
    finally:
        drop_databases(postgres_18, "mine")
        ask(postgres_18, "DROP ROLE mine")


def test_a_role_that_neither_the_server_nor_the_sets_roles_know_is_made_and_told(
    postgres_18: ScratchPostgres, database: str, tmp_path: Path
) -> None:
    ask(postgres_18, "CREATE ROLE scholaria LOGIN; CREATE TABLE t (n int); ALTER TABLE t OWNER TO scholaria", database)
    backup = taken(postgres_18, tmp_path, database)
    drop_databases(postgres_18, database)
    ask(postgres_18, "DROP ROLE scholaria")
    globals_sql = backup.directory / "postgres/globals.sql"
    globals_sql.write_text("\n".join(x for x in globals_sql.read_text().splitlines() if "scholaria" not in x) + "\n")
    said: list[str] = []

    class Said(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    component = PostgresComponent(postgres_18.url())
    try:
        assert component.restore(backup, WHOLE, Said()).failures == []
        assert said == ["Warning: The set's roles lack scholaria; it was created without login."]
        assert ask(postgres_18, "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'scholaria'") == [(False,)]
        # one that exists is left alone, whatever the set says of it
        ask(postgres_18, "ALTER ROLE scholaria CONNECTION LIMIT 3")
        assert restored(component, backup) == []
        assert ask(postgres_18, "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'scholaria'") == [(3,)]
    finally:
        component.close()
        drop_databases(postgres_18, database)
        ask(postgres_18, "DROP ROLE scholaria")


def test_data_that_fails_to_load_leaves_the_old_database_and_is_named(
    postgres_18: ScratchPostgres, database: str, typed: Typed, tmp_path: Path
) -> None:
    # a check that looks into another table: true when it was written, false while the tables are loaded
    ask(
        postgres_18,
        """CREATE TABLE z_allowed (n int); INSERT INTO z_allowed VALUES (1);
        CREATE FUNCTION allowed(int) RETURNS bool LANGUAGE sql
            AS 'SELECT EXISTS (SELECT FROM public.z_allowed WHERE n = $1)';
        CREATE TABLE a (n int CHECK (allowed(n))); INSERT INTO a VALUES (1); CREATE TABLE version AS SELECT 1 AS v""",
        database,
    )
    taken(postgres_18, tmp_path, database)
    ask(postgres_18, "UPDATE version SET v = 2", database)
    env = {"POSTGRES_URL": postgres_18.url(), "BACKUP_DIR": str(tmp_path), "POSTGRES_JOBS": "1"}
    done = typed("restore", "--component", "postgres", "--force", "--no-safety-set", env=env)
    assert done.returncode == 13, done.stderr
    assert 'COPY failed for table "a"' in done.stderr
    assert "what stood there is as it was" in done.stderr
    assert ask(postgres_18, "SELECT v FROM version", database) == [(2,)]
    assert names_of(postgres_18) == sorted(["postgres", database])


def test_an_extension_that_the_target_lacks_is_found_before_anything_is_written(
    postgres_18: ScratchPostgres, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(postgres_18, "CREATE EXTENSION vector; CREATE TABLE t (v vector(3))", database)
    backup = taken(postgres_18, tmp_path / "sets", database)
    package = postgres_18.bin.parent.parent
    copied = tmp_path / "programs" / package.name
    shutil.copytree(postgres_18.bin.parent, copied / postgres_18.bin.parent.name, ignore=shutil.ignore_patterns("*.a"))
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, copied.with_name(libraries.name))
    next(copied.rglob("vector.control")).unlink()
    monkeypatch.setenv("POSTGRES_BIN", str(copied / postgres_18.bin.parent.name / "bin"))
    with scratch_postgres() as server:
        component = PostgresComponent(server.url())
        with pytest.raises(IntegrityError, match="uses the extension vector 0"):
            component.check_target(backup, WHOLE)
        component.close()
        assert names_of(server) == ["postgres"]


def test_two_restores_of_one_database_do_not_meet(
    postgres_18: ScratchPostgres, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "PATIENCE_S", 0.3)
    ask(postgres_18, "CREATE TABLE t AS SELECT 1 AS n", database)
    backup = taken(postgres_18, tmp_path, database)
    with swap.maintenance(Server(postgres_18.url()), [database]) as other:
        swap.claim(other, database)
        with pytest.raises(RefusedError, match="another restore"):
            restored(PostgresComponent(postgres_18.url()), backup)
    assert restored(PostgresComponent(postgres_18.url()), backup) == []


def test_work_that_is_given_up_leaves_nothing_running_and_nothing_behind(
    postgres_18: ScratchPostgres, database: str, tmp_path: Path
) -> None:
    class Ended(BaseException):
        pass

    class Ending(Silent):
        def advance(self, amount: int) -> None:
            raise Ended

    ask(postgres_18, "CREATE TABLE t AS SELECT md5(n::text) FROM generate_series(1, 200000) n", database)
    backup = taken(postgres_18, tmp_path, database)
    component = PostgresComponent(postgres_18.url(database))
    component.connect()
    (tmp_path / "set").mkdir()
    with pytest.raises(Ended):
        component.take(tmp_path, tmp_path / "set", Ending())
    with pytest.raises(Ended):
        component.restore(backup, WHOLE, Ending())
    component.close()
    asked = "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'pg_%'"
    from support import eventually

    eventually(lambda: ask(postgres_18, asked) == [])
    assert names_of(postgres_18) == sorted(["postgres", database])
    assert ask(postgres_18, "SELECT count(*) FROM t", database) == [(200000,)]


def test_no_secret_stands_in_arguments_environment_or_in_a_file_of_others(
    postgres_18: ScratchPostgres, database: str, typed: Typed, tmp_path: Path
) -> None:
    ask(postgres_18, "CREATE TABLE t AS SELECT md5(n::text) FROM generate_series(1, 300000) n", database)
    seen: dict[str, str] = {}
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for place in Path("/proc").glob("[0-9]*"):
                try:
                    words = (place / "cmdline").read_bytes()
                    if b"pg_dump" in words.split(b"\0")[0] or b"pg_restore" in words.split(b"\0")[0]:
                        seen[words.decode()] = (place / "environ").read_bytes().decode()
                except OSError:
                    continue
            time.sleep(0.005)

    thread = threading.Thread(target=look)
    thread.start()
    url = postgres_18.url(database).replace(f":{postgres_18.password}@", "@")
    env = {"POSTGRES_URL": url, "POSTGRES_PASSWORD": postgres_18.password, "BACKUP_DIR": str(tmp_path)}
    try:
        for words in (["backup"], ["restore", "--force"]):
            done = typed(*words, "--component", "postgres", env=env)
            assert done.returncode == 0, done.stderr
            assert postgres_18.password not in done.stdout + done.stderr
    finally:
        over.set()
        thread.join()
    assert {"pg_dump", "pg_restore"} <= {Path(words.split("\0")[0]).name for words in seen}
    for words, environment in seen.items():
        assert postgres_18.password not in words
        assert postgres_18.password not in environment
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.suffix == ".json":
            assert postgres_18.password not in path.read_text()


def test_roles_of_text_that_is_strange_are_read_as_they_were_written(postgres_18: ScratchPostgres) -> None:
    strange = "a;b \"c\" 'd' \\e\n--f"
    quoted = '"' + strange.replace('"', '""') + '"'
    text = f"""
--
-- Roles; not a statement
--
\\restrict abc;
CREATE ROLE {quoted};
ALTER ROLE {quoted} WITH NOSUPERUSER LOGIN PASSWORD 'x;''y';
COMMENT ON ROLE {quoted} IS 'it''s; -- "so"';
ALTER ROLE {quoted} SET "a.b" TO E'\\\\;''';
CREATE TABLESPACE fast LOCATION '/nowhere';
\\unrestrict abc
"""
    found = list(roles.statements(text))
    assert [each.roles for each in found] == [(strange,)] * 4
    with Server(postgres_18.url()).connect() as connection:
        try:
            assert roles.create(connection, text, {strange}) == []
            columns = "rolcanlogin, shobj_description(oid, 'pg_authid'), rolconfig"
            asked = f"SELECT {columns} FROM pg_roles WHERE rolname = %s".encode()
            assert connection.execute(asked, [strange]).fetchone() == (True, 'it\'s; -- "so"', ["a.b=\\;'"])
        finally:
            connection.execute(f"DROP ROLE IF EXISTS {quoted}".encode())


def test_a_locale_that_the_target_lacks_is_refused_and_a_rehearsal_may_do_without(
    postgres_18: ScratchPostgres, database: str, tmp_path: Path
) -> None:
    backup = taken(postgres_18, tmp_path, database)
    section = backup.metadata.components["postgres"]["databases"][0]["properties"]
    section["collate"] = section["ctype"] = "xx_XX.UTF-8"
    component = PostgresComponent(postgres_18.url())
    with pytest.raises(IntegrityError, match="has the locale xx_XX"):
        component.check_target(backup, WHOLE)
    component.close()
    assert restored(PostgresComponent(postgres_18.url(), any_locale=True), backup) == []


def test_too_little_room_is_told_before_anything_is_written(
    postgres_18: ScratchPostgres, tmp_path: Path, database: str
) -> None:
    backup = taken(postgres_18, tmp_path, database)
    backup.metadata.components["postgres"]["databases"][0]["size_bytes"] = 1 << 60
    component = PostgresComponent(postgres_18.url())
    with pytest.raises(UnreachableError, match="twice the size of what is restored"):
        component.check_target(backup, WHOLE)
    component.close()


def test_a_replica_and_a_database_that_is_not_in_the_set_are_refused(
    postgres_18: ScratchPostgres, database: str, tmp_path: Path
) -> None:
    from understudy.errors import NotFoundError

    backup = taken(postgres_18, tmp_path, database)
    other = PostgresComponent(postgres_18.url(), databases=[database + "x"])
    with pytest.raises(NotFoundError, match="holds no database") as caught:
        other.check_target(backup, WHOLE)
    assert f"Did you mean {database}?" in caught.value.hint
    create_database(postgres_18, "second")
    two = taken(postgres_18, tmp_path, database, "second")
    component = PostgresComponent(postgres_18.url())
    with pytest.raises(UsageError, match="holds 2 databases"):
        component.check_target(two, RestoreOptions(into_database="x"))
    component.close()
    drop_databases(postgres_18, "second")
