"""The runbook is typed for real: its `console` blocks, in order, against PostgreSQL, Valkey and a stand-in for Qdrant.

The suite goes as far as the five disasters; `make soak` types every block.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pyrage
import pytest

from docs.markdown import blocks as code
from docs.markdown import links
from docs.played import Block, Played, Step, blocks, play
from qdrant_standin import filled, standin
from support import repository_root
from understudy import lab, settings
from understudy.lab.servers.postgres import scratch_postgres
from understudy.valkey.router import Router

pytestmark = pytest.mark.long(20)
DOCS = repository_root() / "docs"
OPERATIONS, RUNBOOK, KOREAN = (DOCS / name for name in ("operations.md", "runbook.md", "runbook.ko.md"))
REHEARSALS = DOCS / "rehearsals.md"
TOML = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
API_KEY = "planted-qdrant-key"
OURS = re.compile(r"(REDIS|BACKUP|POSTGRES|DATABASE|QDRANT|SCHEDULE|REHEARSE|AWS|PG|ENV|S3|DAILY|RETENTION)_?\w*")
SCHEMA = """
SET ROLE scholaria;
CREATE TABLE topics (id serial PRIMARY KEY, name text NOT NULL);
CREATE TABLE context_items (id bigserial PRIMARY KEY, topic_id int NOT NULL REFERENCES topics, body text);
INSERT INTO topics (name) SELECT '주제 ' || n FROM generate_series(1, 25) n;
INSERT INTO context_items (topic_id, body) SELECT 1 + n % 25, '본문' FROM generate_series(1, 150) n;
"""


@dataclass(frozen=True)
class Stack:
    """A stack as the pages describe it; `ports` maps the ports that they show to those where it is."""

    folder: Path
    ports: dict[str, int]
    environ: dict[str, str]

    def here(self, text: str) -> str:
        """Return a page's text with the addresses of this stack."""
        text = text.replace("/mnt/nas/scholaria", "nas")
        return re.sub(rf"\b({'|'.join(self.ports)})\b", lambda match: str(self.ports[match[0]]), text)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with (
        scratch_postgres() as server,
        lab.standalone() as valkey,
        standin(tmp_path / "qdrant", api_key=API_KEY) as qdrant,
        standin(tmp_path / "rehearsal") as another,
    ):
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE ROLE scholaria LOGIN PASSWORD 'not used here'")
            connection.execute("CREATE DATABASE scholaria OWNER scholaria")
        with psycopg.connect(server.url("scholaria"), autocommit=True) as connection:
            connection.execute("GRANT ALL ON SCHEMA public TO scholaria")
            connection.execute(SCHEMA)
        with Router(valkey.target()) as router:
            keys = [("SET", f"embedding_cache:{n}", f"vector-{n}", "EX", "864000") for n in range(300)]
            keys += [("HSET", f"session:{n}", "user", f"user-{n}") for n in range(15)]
            keys += [("RPUSH", "celery", "task-1", "task-2")]
            router.execute([(None, words) for words in keys])
        filled(qdrant.url, "scholaria_documents", 1500, api_key=API_KEY)
        folder = tmp_path / "stack"
        (folder / "nas").mkdir(parents=True)
        shown = {"5432": server.port, "6379": valkey.target().seeds[0].port, "6333": port(qdrant.url)}
        path = os.pathsep.join([str(Path(sys.executable).parent), str(server.bin), os.environ["PATH"]])
        secrets = {"POSTGRES_PASSWORD": server.password, "QDRANT_API_KEY": API_KEY}
        environ = {name: value for name, value in os.environ.items() if not OURS.fullmatch(name)}
        environ |= secrets | {"PATH": path, "UNDERSTUDY_HOME": str(tmp_path / "home"), "COLUMNS": "200"}
        environ |= {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "postgres", "PGDATABASE": "scholaria"}
        environ |= {"PGPASSWORD": server.password}
        made = Stack(folder, {**shown, "6433": port(another.url)}, environ)
        example = TOML.search(OPERATIONS.read_text())
        assert example
        (folder / "understudy.toml").write_text(made.here(example[1]))
        (folder / "secrets.env").write_text("".join(f"{name}={value}\n" for name, value in secrets.items()))
        (folder / "secrets.env").chmod(0o600)
        write_key(folder / "understudy.key")
        yield made


def port(url: str) -> int:
    return int(url.rpartition(":")[2])


def write_key(file: Path) -> None:
    """Make what `age-keygen -o` makes."""
    identity = pyrage.x25519.Identity.generate()
    file.write_text(f"# public key: {identity.to_public()}\n{identity}\n")


def typed(page: Path, stack: Stack, until: str | None = None, soak: bool = False) -> list[str]:
    """Type the blocks of a page (those before a heading; long ones for `soak`); return what was not as it shows."""
    wrong = []
    for block in blocks(stack.here(page.read_text())):
        if until and block.heading.startswith(until):
            break
        if not block.not_typed and (soak or not block.soak) and not block.lacks(stack.environ["PATH"]):
            played = play(block, stack.folder, stack.environ)
            wrong += [f"## {block.heading}\n{one.wrong}" for one in played if one.wrong]
    return wrong


@pytest.mark.timeout(600)
def test_the_first_set_and_the_five_disasters_go_as_the_pages_show(stack: Stack) -> None:
    wrong = typed(OPERATIONS, stack) + typed(RUNBOOK, stack, until="6. ")
    assert not wrong, "\n\n".join(wrong)
    ask_as_rehearsals_do(stack)
    wrong = typed(REHEARSALS, stack)
    assert not wrong, "\n\n".join(wrong)


def ask_as_rehearsals_do(stack: Stack) -> None:
    """Put the checks of the page into the settings, in the place of those that are there."""
    [checks] = TOML.findall(REHEARSALS.read_text())
    file = stack.folder / "understudy.toml"
    file.write_text(file.read_text().partition("[[rehearse.checks]]")[0] + checks)
    program = stack.folder / "smoke.sh"
    program.write_text("#!/bin/sh\necho search works\n")
    program.chmod(0o700)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_every_block_of_the_runbook_goes_as_it_shows(stack: Stack) -> None:
    wrong = typed(OPERATIONS, stack) + typed(RUNBOOK, stack, soak=True)
    assert not wrong, "\n\n".join(wrong)


def test_the_runbook_in_korean_shows_the_same() -> None:
    english, korean = RUNBOOK.read_text(), KOREAN.read_text()
    assert code(english) == code(korean)
    assert blocks(english) != []
    assert [block.first for block in blocks(english)] == [block.first for block in blocks(korean)]
    assert english.count("\n## ") == korean.count("\n## ")
    assert english.count("\n| ") == korean.count("\n| ")


def test_the_runbook_in_korean_leads_where_the_english_one_leads() -> None:
    elsewhere = [
        sorted(link for link in links(page.read_text()) if not link.startswith(("#", "runbook")))
        for page in (RUNBOOK, KOREAN)
    ]
    assert elsewhere[0] == elsewhere[1]


@pytest.mark.parametrize("example", TOML.findall(OPERATIONS.read_text()))
def test_every_settings_file_shown_can_be_read(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "understudy.toml").write_text(example)
    monkeypatch.setenv("UNDERSTUDY_CONFIG", str(tmp_path / "understudy.toml"))
    for name in [name for name in os.environ if OURS.fullmatch(name)]:
        monkeypatch.delenv(name)
    assert settings.written()
    settings.load()


def test_what_a_page_shows_and_what_happens_are_told_apart(tmp_path: Path) -> None:
    page = (
        "# One\n<!-- first: echo made > file -->\n```console\n$ cat file\nmade\n"
        "$ echo 2026-11-21T10:35:40Z 1,234 keys in 1m 3s\n2020-01-01T00:00:00Z 7 keys in 0.2s\n"
        "$ printf 'a\\nb\\n'\nb\na\n$ false\n$ echo understudy\nError: no\n```\n"
    )
    (block,) = blocks(page)
    assert block.heading == "One"
    played = play(block, tmp_path, {"PATH": os.environ["PATH"]})
    wrong = [one.step.typed for one in played if one.wrong]
    assert wrong == ["printf 'a\\nb\\n'", "false", "echo understudy"]
    assert Played(Step("understudy list", ("Error: no",)), 1, "Error: no").wrong is None
    assert Block("", ("nosuchprogram",), (Step("jq .", ()),)).lacks("/nowhere") == {"jq"}
