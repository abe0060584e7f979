"""Components for tests that run over all of them: each with a store of its own, filled, emptied and broken alike.

To add one, write a class with these members and name it in `SUBJECTS`; `tests/backup/test_components.py` runs over it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import httpx

from postgres import ask, create_database, drop_databases
from qdrant_standin import filled, standin
from typist import typist
from understudy.backup.component import Component
from understudy.backup.components.postgres import PostgresComponent
from understudy.backup.components.qdrant import QdrantComponent
from understudy.backup.components.redis import RedisComponent
from understudy.lab import Lab
from understudy.lab.sample import fill, load_function, wipe
from understudy.lab.servers.postgres import ScratchPostgres
from understudy.valkey.router import Router
from understudy.valkey.target import Address, Target

NOWHERE = "127.0.0.1:9"  # the port that throws away: nobody listens there
KEYS, ROWS, POINTS = 200, 3000, 300
KEY = "planted-qdrant-key"
COLLECTION = "scholaria_documents"


class Subject(Protocol):
    """One store: how to reach it, and what to do to it."""

    name: str
    env: dict[str, str]
    overwrite: bool  # whether a restore replaces only what it is told to

    def component(self) -> Component: ...

    def nowhere(self) -> Component: ...

    def fill(self, times: int = 1) -> None: ...

    def destroy(self) -> None: ...

    def grow(self) -> None: ...


class RedisSubject:
    name = "redis"
    overwrite = True

    def __init__(self, lab: Lab) -> None:
        self._lab, self._target = lab, lab.target()
        self.env = lab.env()

    def component(self) -> Component:
        return RedisComponent(self._target)

    def nowhere(self) -> Component:
        return RedisComponent(Target((Address.parse(NOWHERE),)))

    def fill(self, times: int = 1) -> None:
        with Router(self._target) as router:
            wipe(router)
            fill(router, KEYS * times)
            load_function(router)

    def destroy(self) -> None:
        with Router(self._target) as router:
            wipe(router)

    def grow(self) -> None:
        self.destroy()
        with Router(self._target) as router:
            fill(router, 8_000)
            load_function(router)


class PostgresSubject:
    name = "postgres"
    overwrite = False

    def __init__(self, server: ScratchPostgres, database: str) -> None:
        self._server, self._database = server, database
        self.env = {"POSTGRES_URL": server.url(database)}

    def component(self) -> Component:
        return PostgresComponent(self._server.url(self._database))

    def nowhere(self) -> Component:
        return PostgresComponent(f"postgresql://nobody@{NOWHERE}/app")

    def fill(self, times: int = 1) -> None:
        self.destroy()
        create_database(self._server, self._database)
        ask(self._server, _TABLES.format(rows=ROWS * times), self._database)

    def destroy(self) -> None:
        drop_databases(self._server, self._database, "stack_rescue")

    def grow(self) -> None:
        ask(self._server, _MORE, self._database)


_TABLES = """
CREATE TABLE topics (id serial PRIMARY KEY, slug text NOT NULL, made timestamptz DEFAULT now());
INSERT INTO topics (slug) SELECT '주제-' || n FROM generate_series(1, {rows}) n;
CREATE TABLE "context items" (id bigint GENERATED ALWAYS AS IDENTITY, topic int REFERENCES topics, body jsonb);
INSERT INTO "context items" (topic, body) SELECT n, json_build_object('n', n) FROM generate_series(1, 100) n;
SELECT lo_from_bytea(0, 'a large object');
"""
_MORE = """
CREATE TABLE big AS SELECT n, md5(n::text) || md5((n * 7)::text) AS text FROM generate_series(1, 200000) n;
"""


class QdrantSubject:
    name = "qdrant"
    overwrite = False

    def __init__(self, url: str) -> None:
        self._url = url
        self.env = {"QDRANT_URL": url, "QDRANT_API_KEY": KEY}

    def component(self) -> Component:
        return QdrantComponent([self._url], api_key=KEY)

    def nowhere(self) -> Component:
        return QdrantComponent([f"http://{NOWHERE}"], api_key=KEY)

    def fill(self, times: int = 1) -> None:
        self.destroy()
        filled(self._url, COLLECTION, POINTS * times, api_key=KEY)

    def destroy(self) -> None:
        httpx.post(f"{self._url}/standin/reset").raise_for_status()

    def grow(self) -> None:
        filled(self._url, "more", 20_000, api_key=KEY)


SUBJECTS = ("postgres", "redis", "qdrant")


@contextmanager
def qdrant_subject(folder: Path) -> Iterator[Subject]:
    """Run the stand-in as a subject."""
    with standin(folder, api_key=KEY) as running:
        yield QdrantSubject(running.url)


def children() -> set[int]:
    """Every process below this one that is not a zombie."""
    typist()  # it stays: started between two looks it would seem to have been left
    found: dict[int, int] = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                state, parent = (place / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if state != "Z":
                found[int(place.name)] = int(parent)
    ours = {os.getpid()}
    while more := {pid for pid, parent in found.items() if parent in ours} - ours:
        ours |= more
    return ours - {os.getpid()}
