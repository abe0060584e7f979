"""Single tables come back in one transaction, in their place or in another database; or nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backup_of_postgres import restored, taken
from conftest import Typed
from postgres import SAMPLE, ask, drop_databases, names_of
from understudy.backup.component import RestoreOptions
from understudy.backup.components.postgres import PostgresComponent
from understudy.backup.set import BackupSet
from understudy.errors import NotFoundError, RefusedError
from understudy.lab.servers.postgres import ScratchPostgres
from understudy.progress import Silent


@pytest.fixture
def sampled(postgres_18: ScratchPostgres, database: str, tmp_path: Path) -> Iterator[BackupSet]:
    """A set of the sample; the database goes on to stand there."""
    ask(postgres_18, SAMPLE, database)
    before = names_of(postgres_18)
    yield taken(postgres_18, tmp_path / "sets", database)
    drop_databases(postgres_18, *set(names_of(postgres_18)) - set(before))


def only(*names: str, into: str | None = None) -> RestoreOptions:
    return RestoreOptions(tables=names, into_database=into)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("public.context_items", "DELETE FROM context_items WHERE id < 150"),
        ("context_items", "DROP TABLE context_items CASCADE; CREATE TABLE context_items (other int)"),
        ("measured", "DELETE FROM measured"),
        ("measured", "DROP TABLE measured"),
        ("measured_2025", "TRUNCATE measured_2025"),
        ('a b.표.하나"s', 'TRUNCATE "a b"."표.하나""s"'),
        ('"a b"."표.하나""s"', 'DROP SCHEMA "a b" CASCADE'),
    ],
)
def test_a_table_comes_back_as_it_was_and_the_others_stay_as_they_are(
    postgres_18: ScratchPostgres, database: str, sampled: BackupSet, name: str, damage: str
) -> None:
    component = PostgresComponent(postgres_18.url(database))
    ask(postgres_18, "DROP MATERIALIZED VIEW per_topic; INSERT INTO unlogged VALUES (7)", database)
    ask(postgres_18, damage, database)
    assert component.compare(sampled, Silent()).differences != ()
    assert restored(component, sampled, only(name)) == []
    left = {line.partition(": ")[2] for line in component.compare(sampled, Silent()).differences}
    assert left == {
        "the materialized view public.per_topic is missing",
        "public.unlogged has 2 rows, the set recorded 1",
    }
    component.close()


def test_what_holds_on_to_a_table_is_named_and_nothing_is_changed(
    postgres_18: ScratchPostgres, database: str, sampled: BackupSet, typed: Typed, tmp_path: Path
) -> None:
    component = PostgresComponent(postgres_18.url(database))
    ask(postgres_18, "INSERT INTO topics (title) VALUES ('new')", database)
    env = {"POSTGRES_URL": postgres_18.url(database), "BACKUP_DIR": str(tmp_path / "sets")}
    words = ("restore", "--component", "postgres", "--force", "--no-safety-set", "latest")
    done = typed(*words, "--table", "public.topics", env=env)
    assert done.returncode == 14, done.stderr
    assert "the foreign key context_items_topic_fkey of context_items" in done.stderr
    assert "the view good" in done.stderr
    hint = done.stderr.partition("Try: ")[2]
    assert "--table once more); drop the view good by hand, and create it again" in hint
    assert "--into-database" in hint
    into = typed(*words, "--table", "topics", "--into-database", "not_there", "--dry-run", env=env)
    assert "[DRY RUN] Only these tables: topics\n[DRY RUN] Into the database: not_there\n" in into.stdout, into.stderr
    assert ask(postgres_18, "SELECT count(*) FROM topics", database) == [(26,)]
    # without what holds on to it, both tables come back together
    ask(postgres_18, "DROP VIEW good; DROP MATERIALIZED VIEW per_topic", database)
    done = typed(*words, "--table", "public.topics", "--table", "context_items", env=env)
    assert done.returncode == 0, done.stderr
    assert ask(postgres_18, "SELECT count(*) FROM topics", database) == [(25,)]
    assert ask(postgres_18, "INSERT INTO topics (title) VALUES ('x') RETURNING id", database) == [(26,)]
    assert len(component.compare(sampled, Silent()).differences) == 4  # two views, one row, one number given out
    component.close()


def test_rows_that_others_would_miss_are_refused_by_the_server_and_nothing_is_changed(
    postgres_18: ScratchPostgres, database: str, sampled: BackupSet
) -> None:
    component = PostgresComponent(postgres_18.url(database))
    ask(
        postgres_18,
        "DROP MATERIALIZED VIEW per_topic; DELETE FROM context_items; DELETE FROM topics WHERE id = 3",
        database,
    )
    with pytest.raises(RefusedError, match="violates foreign key") as caught:
        restored(component, sampled, only("context_items"))
    assert "nothing was changed" in caught.value.why
    assert ask(postgres_18, "SELECT count(*) FROM context_items", database) == [(0,)]


def test_a_table_goes_into_another_database_that_is_made_for_it(
    postgres_18: ScratchPostgres, database: str, sampled: BackupSet
) -> None:
    component = PostgresComponent(postgres_18.url(database))
    ask(postgres_18, "DELETE FROM context_items", database)
    said: list[str] = []

    class Said(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    options = only("context_items", into="rescue 1")
    assert component.overwrites(sampled, options) == []
    component.check_target(sampled, options)
    component.restore(sampled, options, Said())
    assert "FK CONSTRAINT public context_items" in said[0]
    assert ask(postgres_18, "SELECT count(*), max(id) FROM context_items", "rescue 1") == [(150, 249)]
    # again, and another beside it: now that is there
    for name in ("context_items", "public.topics"):
        assert restored(component, sampled, only(name, into="rescue 1")) == []
    assert ask(postgres_18, "SELECT count(*) FROM topics WHERE embedding IS NOT NULL", "rescue 1") == [(25,)]
    assert ask(postgres_18, "SELECT count(*) FROM context_items", database) == [(0,)]
    # a whole database goes into another one too
    assert restored(component, sampled, RestoreOptions(into_database="rescue 2")) == []
    assert ask(postgres_18, "SELECT count(*) FROM context_items", "rescue 2") == [(150,)]
    assert not [name for name in names_of(postgres_18) if "__" in name]


def test_a_table_that_the_set_lacks_is_told_with_names_like_it(
    postgres_18: ScratchPostgres, database: str, sampled: BackupSet, typed: Typed, tmp_path: Path
) -> None:
    env = {"POSTGRES_URL": postgres_18.url(database), "BACKUP_DIR": str(tmp_path / "sets")}
    done = typed("restore", "--component", "postgres", "--table", "public.topic", "latest", env=env)
    assert done.returncode == 11, done.stderr
    assert "Did you mean public.topics" in done.stderr
    component = PostgresComponent(postgres_18.url(database))
    with pytest.raises(NotFoundError, match="no table"):
        component.check_target(sampled, only("nothing.like.it"))
    drop_databases(postgres_18, database)
    with pytest.raises(NotFoundError, match="there is no database"):
        component.check_target(sampled, only("topics"))
    component.close()
