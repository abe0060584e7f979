"""Collections in a set and back: one node and several, against the stand-in (see tests/qdrant_standin.py)."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdrant_standin import CLIENT, StandIn, filled, point, standin
from support import meanwhile
from understudy.backup.check import check
from understudy.backup.component import RestoreOptions
from understudy.backup.components.qdrant import QdrantComponent
from understudy.backup.qdrant import restore as restoring
from understudy.backup.qdrant.names import MOST_PATH, in_url, paths
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.set import BackupSet, safe_path
from understudy.backup.take import take
from understudy.errors import (
    IncompleteError,
    IntegrityError,
    NotFoundError,
    RefusedError,
    UnderstudyError,
    UnreachableError,
    UsageError,
)
from understudy.progress import Silent
from understudy.settings import load

KEY = "planted-qdrant-key"
DOCS = "scholaria_documents"
OPTIONS = RestoreOptions()


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with standin(tmp_path_factory.mktemp("one"), api_key=KEY) as running:
        yield running


@pytest.fixture
def qdrant(one: StandIn) -> StandIn:
    return one.reset()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with standin(tmp_path_factory.mktemp("three"), nodes=3, api_key=KEY) as running:
        yield running


@pytest.fixture
def cluster(three: StandIn) -> StandIn:
    return three.reset()


@contextlib.contextmanager
def component(running: StandIn, *names: str) -> Iterator[QdrantComponent]:
    with contextlib.closing(QdrantComponent(running.urls, api_key=KEY, collections=names)) as found:
        yield found


def ask(running: StandIn, method: str, path: str, body: Any = None) -> Any:
    reply = CLIENT.request(method, f"{running.urls[0]}{path}", json=body, headers={"api-key": KEY})
    return reply.raise_for_status().json()["result"]


def fill(running: StandIn, name: str = DOCS, points: int = 1500, **config: Any) -> None:
    filled(running.urls[0], name, points, api_key=KEY, **config)


def alias(running: StandIn, name: str, collection: str) -> None:
    words = {"create_alias": {"alias_name": name, "collection_name": collection}}
    ask(running, "POST", "/collections/aliases", {"actions": [words]})


def drop(running: StandIn, *names: str) -> None:
    for name in names:
        ask(running, "DELETE", f"/collections/{quote(name, safe='')}")


def points(running: StandIn, name: str) -> list[Any]:
    place = f"/collections/{quote(name, safe='')}/points/scroll"
    return sorted(ask(running, "POST", place, {"limit": 100_000})["points"], key=lambda row: int(row["id"]))


def backed_up(running: StandIn, into: Path, *names: str) -> BackupSet:
    with component(running, *names) as found:
        return take([found], LocalRepository(into), None, "local", Silent()).backup


def section(backup: BackupSet) -> Any:
    return json.loads(json.dumps(backup.metadata.components["qdrant"]))


def test_a_collection_with_its_aliases_is_backed_up_destroyed_restored_and_equal(
    qdrant: StandIn, tmp_path: Path
) -> None:
    fill(qdrant)
    fill(qdrant, "이름 #1", 3)
    ask(qdrant, "PUT", f"/collections/{DOCS}/index", {"field_name": "topic", "field_schema": "integer"})
    alias(qdrant, "live", DOCS)
    before = [points(qdrant, name) for name in (DOCS, "이름 #1")]
    backup = backed_up(qdrant, tmp_path)
    assert qdrant.left() == []
    assert section(backup)["summary"] == f"1500 vectors in {DOCS}, 3 vectors in 이름 #1"
    check(backup, Silent())
    drop(qdrant, DOCS, "이름 #1")
    with component(qdrant) as found:
        assert found.overwrites(backup, OPTIONS) == []
        found.check_target(backup, OPTIONS)
        report = found.restore(backup, OPTIONS, Silent())
        compared = found.compare(backup, Silent())
    assert (report.failed, report.counts) == (0, {"collections": 2, "vectors": 1503, "aliases": 1})
    assert compared.counted == f"1500 vectors in {DOCS}, 3 vectors in 이름 #1"
    assert compared.differences == ()
    assert [points(qdrant, name) for name in (DOCS, "이름 #1")] == before
    assert before[0] == [point(number) for number in range(1500)]
    assert qdrant.left() == []


def test_the_metadata_says_what_it_was_taken_from(qdrant: StandIn, tmp_path: Path) -> None:
    fill(qdrant, "docs", 7)
    alias(qdrant, "live", "docs")
    backup = backed_up(qdrant, tmp_path)
    found = section(backup)
    (file,) = found["collections"][0]["files"]
    assert found["server"] == {"name": "qdrant", "version": "1.15.4"}
    assert [node["url"] for node in found["nodes"]] == [qdrant.url]
    assert found["collections"][0]["points"] == 7
    assert found["collections"][0]["config"]["params"]["vectors"] == {"size": 4, "distance": "Cosine"}
    assert {entry.path: entry.sha256 for entry in backup.metadata.files}[file["path"]] == file["checksum"]
    assert json.loads((backup.directory / "qdrant/aliases.json").read_bytes()) == found["aliases"] == {"live": "docs"}
    modes = {path.stat().st_mode & 0o777 for path in (backup.directory / "qdrant").iterdir()}
    assert modes == {0o600}


def test_the_files_are_named_as_document_5_would(qdrant: StandIn, tmp_path: Path) -> None:
    fill(qdrant)
    backup = backed_up(qdrant, tmp_path)
    with component(qdrant) as found:
        assert found.sources(backup) == [f"qdrant/{DOCS}.snapshot (1500 vectors in {DOCS})"]
        assert found.overwrites(backup, OPTIONS) == [f"Qdrant {qdrant.url}: the 1500 vectors in {DOCS}"]


def test_a_dry_run_writes_nothing(qdrant: StandIn, tmp_path: Path) -> None:
    fill(qdrant, "docs", 5)
    backup = backed_up(qdrant, tmp_path)
    before = len(qdrant.seen())
    with component(qdrant) as found:
        found.check_target(backup, OPTIONS)
        report = found.restore(backup, RestoreOptions(dry_run=True), Silent())
    assert report.counts == {"collections": 1, "vectors": 5, "aliases": 0}
    assert {row["method"] for row in qdrant.seen()[before:]} == {"GET"}


def test_only_the_collections_of_the_setting_are_read_with_their_aliases(qdrant: StandIn, tmp_path: Path) -> None:
    for name in ("a", "b"):
        fill(qdrant, name, 2)
        alias(qdrant, f"of-{name}", name)
    backup = backed_up(qdrant, tmp_path, "b")
    assert section(backup)["summary"] == "2 vectors in b"
    assert section(backup)["aliases"] == {"of-b": "b"}
    with component(qdrant) as found:
        assert found.compare(backup, Silent()).differences == ()  # `a` was not wanted, so that it is not too many


def test_no_collections_make_a_set_that_restores_to_nothing(qdrant: StandIn, tmp_path: Path) -> None:
    backup = backed_up(qdrant, tmp_path)
    check(backup, Silent())
    with component(qdrant) as found:
        assert found.restore(backup, OPTIONS, Silent()).counts == {"collections": 0, "vectors": 0, "aliases": 0}
        assert found.compare(backup, Silent()).counted == "no collections"


def test_a_collection_of_the_setting_that_is_not_there_or_an_alias_is_named(qdrant: StandIn, tmp_path: Path) -> None:
    fill(qdrant, "docs", 2)
    alias(qdrant, "live", "docs")
    with pytest.raises(NotFoundError, match=r"dogs.*none of that name among docs"):
        backed_up(qdrant, tmp_path, "docs", "dogs")
    with pytest.raises(UsageError, match="an alias of docs"):
        backed_up(qdrant, tmp_path, "live")


def test_a_restore_replaces_what_stands_there_and_switches_aliases_in_one_request(
    qdrant: StandIn, tmp_path: Path
) -> None:
    fill(qdrant, "docs", 10)
    fill(qdrant, "docs2", 4)
    for name in ("live", "search", "same"):
        alias(qdrant, name, "docs")
    backup = backed_up(qdrant, tmp_path, "docs")
    ask(qdrant, "POST", "/collections/docs/points/delete", {"points": [1, 2, 3]})
    ask(qdrant, "POST", "/collections/aliases", {"actions": [{"delete_alias": {"alias_name": "search"}}]})
    alias(qdrant, "live", "docs2")
    with component(qdrant) as found:
        lines = found.overwrites(backup, OPTIONS)
        assert lines == [
            f"Qdrant {qdrant.url}: the 7 vectors in docs",
            f"Qdrant {qdrant.url}: the alias live, now of docs2, then of docs",
        ]
        before = len(qdrant.seen())
        found.restore(backup, OPTIONS, Silent())
        assert found.compare(backup, Silent()).differences == ()
    switches = [row for row in qdrant.seen()[before:] if row["path"] == "/collections/aliases"]
    assert len(switches) == 1
    rows = ask(qdrant, "GET", "/aliases")["aliases"]
    assert {row["alias_name"]: row["collection_name"] for row in rows} == dict.fromkeys(
        ("live", "search", "same"), "docs"
    )


def test_every_difference_is_named(qdrant: StandIn, tmp_path: Path) -> None:
    fill(qdrant, "docs", 1500)
    fill(qdrant, "gone", 2)
    fill(qdrant, "other", 2)
    for name, of in (("live", "docs"), ("lost", "other")):
        alias(qdrant, name, of)
    ask(qdrant, "PUT", "/collections/docs/index", {"field_name": "topic", "field_schema": "integer"})
    backup = backed_up(qdrant, tmp_path)
    drop(qdrant, "docs", "gone", "other")
    fill(qdrant, "docs", 1499, hnsw_config={"m": 32})
    fill(qdrant, "other", 2)
    fill(qdrant, "new", 1)
    alias(qdrant, "live", "other")
    alias(qdrant, "extra", "other")
    with component(qdrant) as found:
        compared = found.compare(backup, Silent())
    assert compared.counted == "1499 vectors in docs, 2 vectors in other"
    assert set(compared.differences) == {
        "1499 vectors in docs, and the set recorded 1500 vectors in docs",
        "docs: hnsw_config.m is 32, and the set recorded 16",
        "docs: the payload index on topic is missing",
        "the collection gone is missing (2 vectors in gone)",
        "the collection new is not in the set",
        "the alias live is of other, and the set recorded docs",
        "the alias lost (of other) is missing",
        "the alias extra (of other) is not in the set",
    }
    assert [(each.what, each.recorded, each.found) for each in compared.counts] == [
        ("vectors in docs", 1500, 1499), ("vectors in gone", 2, 0), ("vectors in other", 2, 2),
    ]  # fmt: skip


def test_writes_during_the_snapshot_make_a_range_that_the_comparison_accepts(qdrant: StandIn, tmp_path: Path) -> None:
    fill(qdrant, "docs", 100)
    numbers = iter(range(1000, 100_000))
    qdrant.set(snapshot_s=0.3)

    def write() -> None:
        ask(qdrant, "PUT", "/collections/docs/points", {"points": [point(next(numbers))]})

    with meanwhile(write, pause_s=0.01):
        backup = backed_up(qdrant, tmp_path)
    low, high = section(backup)["collections"][0]["points"]
    assert 100 <= low < high
    assert section(backup)["summary"] == f"{low} to {high} vectors in docs"
    with component(qdrant) as found:
        assert found.restore(backup, OPTIONS, Silent()).failed == 0
        compared = found.compare(backup, Silent())
        assert compared.differences == ()
        assert re.fullmatch(
            rf"\d+ vectors in docs \(recorded {low} to {high}: writes went on during the snapshot\)", compared.counted
        )
        for _ in range(high - low + 1):
            write()
        assert "and the set recorded" in found.compare(backup, Silent()).differences[0]


# -- several nodes


def test_every_node_of_a_cluster_gives_its_shards_and_gets_them_back(cluster: StandIn, tmp_path: Path) -> None:
    fill(cluster, "docs", 600, shard_number=5)
    fill(cluster, "small", 4, shard_number=1)
    before = points(cluster, "docs")
    backup = backed_up(cluster, tmp_path)
    files = {each["name"]: [file["node"] for file in each["files"]] for each in section(backup)["collections"]}
    assert files == {"docs": [0, 1, 2], "small": [0]}  # a node without shards of it has nothing to give
    check(backup, Silent())
    drop(cluster, "docs", "small")
    with component(cluster) as found:
        assert found.sources(backup)[1] == "qdrant/docs-n1.snapshot (600 vectors in docs, part 2 of 3)"
        found.check_target(backup, OPTIONS)
        assert found.restore(backup, OPTIONS, Silent()).failed == 0
        assert found.compare(backup, Silent()).differences == ()
    assert points(cluster, "docs") == before
    assert cluster.left() == []


def test_a_cluster_of_which_a_peer_was_not_named_is_refused(cluster: StandIn) -> None:
    with (
        pytest.raises(RefusedError, match=r"has 3 peers, and QDRANT_URL names 2.*10\.0\.0\.2:6335") as raised,
        contextlib.closing(QdrantComponent(cluster.urls[:2], api_key=KEY)) as found,
    ):
        found.connect()
    assert "every node" in raised.value.hint
    with (
        pytest.raises(UsageError, match="are the same node"),
        contextlib.closing(QdrantComponent([*cluster.urls, cluster.urls[0]], api_key=KEY)) as found,
    ):
        found.connect()


@pytest.mark.parametrize("state", ["Dead", "Partial", "Listener"])
def test_a_shard_without_an_active_replica_fails_the_backup(cluster: StandIn, tmp_path: Path, state: str) -> None:
    fill(cluster, "docs", 6, shard_number=3)
    cluster.set(states={"1": state})
    with pytest.raises(IncompleteError, match=r"1 shard.s. have no active replica") as raised:
        backed_up(cluster, tmp_path)
    assert raised.value.items == ["shard 1"]
    assert cluster.left() == []


def test_a_collection_whose_shards_are_being_changed_is_refused(cluster: StandIn, tmp_path: Path) -> None:
    fill(cluster, "docs", 6, shard_number=3)
    cluster.set(resharding=[{"direction": "up", "shard_id": 3, "peer_id": 1}])
    with pytest.raises(RefusedError, match="number of shards is being changed"):
        backed_up(cluster, tmp_path)


def test_a_restore_waits_until_every_replica_is_active(
    cluster: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cluster, "docs", 6, shard_number=3)
    backup = backed_up(cluster, tmp_path)
    drop(cluster, "docs")
    cluster.set(states={"2": "Recovery"})
    monkeypatch.setattr(restoring, "_SETTLED_WITHIN_S", 0.5)
    with component(cluster) as found:
        with pytest.raises(UnreachableError, match="waiting for the replicas of docs"):
            found.restore(backup, OPTIONS, Silent())
        cluster.set(states={"2": "Listener"})
        assert found.restore(backup, OPTIONS, Silent()).failed == 0


def test_two_servers_that_are_no_cluster_are_refused(qdrant: StandIn, cluster: StandIn) -> None:
    with (
        pytest.raises(UsageError, match="no cluster"),
        contextlib.closing(QdrantComponent([qdrant.url, cluster.urls[0]], api_key=KEY)) as found,
    ):
        found.connect()


def test_a_set_of_more_nodes_than_the_target_has_is_refused(cluster: StandIn, qdrant: StandIn, tmp_path: Path) -> None:
    fill(cluster, "docs", 6, shard_number=3)
    backup = backed_up(cluster, tmp_path)
    with component(qdrant) as found, pytest.raises(RefusedError, match="taken from 3 nodes, and QDRANT_URL names 1"):
        found.check_target(backup, OPTIONS)


# -- what a restore refuses before it writes


def refusal(running: StandIn, backup: BackupSet) -> UnderstudyError:
    before = len(running.seen())
    with component(running) as found, pytest.raises(UnderstudyError) as raised:
        found.check_target(backup, OPTIONS)
    assert {row["method"] for row in running.seen()[before:]} <= {"GET"}
    return raised.value


@pytest.mark.parametrize(("server", "fits"), [("1.14.9", False), ("1.15.0", True), ("1.16.0", True), ("0.11.0", False)])
def test_a_snapshot_of_a_newer_minor_version_is_refused(
    qdrant: StandIn, tmp_path: Path, server: str, fits: bool
) -> None:
    fill(qdrant, "docs", 2)
    backup = backed_up(qdrant, tmp_path)
    qdrant.set(version=server)
    if fits:
        with component(qdrant) as found:
            found.check_target(backup, OPTIONS)
        return
    error = refusal(qdrant, backup)
    assert isinstance(error, IntegrityError)
    assert "1.15.4" in error.why
    assert server in error.why


def test_a_collection_that_is_set_up_otherwise_is_refused_with_what_differs(qdrant: StandIn, tmp_path: Path) -> None:
    fill(qdrant, "docs", 2, shard_number=2)
    backup = backed_up(qdrant, tmp_path)
    drop(qdrant, "docs")
    fill(qdrant, "docs", 2, shard_number=3)
    error = refusal(qdrant, backup)
    assert isinstance(error, RefusedError)
    assert "docs has there shard_number 3, and in the set 2" in error.why


def test_vectors_of_another_size_or_name_are_refused_and_another_index_is_not(qdrant: StandIn, tmp_path: Path) -> None:
    fill(qdrant, "docs", 2)
    backup = backed_up(qdrant, tmp_path)
    place = "/collections/docs"
    for vectors, problem in (
        ({"size": 9, "distance": "Cosine"}, "docs has there vectors 9 Cosine, and in the set 4 Cosine"),
        ({"text": {"size": 4, "distance": "Cosine"}}, "docs has there vectors None, and in the set 4 Cosine"),
    ):
        drop(qdrant, "docs")
        ask(qdrant, "PUT", place, {"vectors": vectors})
        assert refusal(qdrant, backup).items[0] == problem
    drop(qdrant, "docs")
    ask(qdrant, "PUT", place, {"vectors": {"size": 4, "distance": "Cosine", "on_disk": True}, "hnsw_config": {"m": 8}})
    with component(qdrant) as found:
        found.check_target(backup, OPTIONS)


def test_names_that_stand_in_the_way_are_refused(qdrant: StandIn, tmp_path: Path) -> None:
    fill(qdrant, "docs", 2)
    alias(qdrant, "live", "docs")
    backup = backed_up(qdrant, tmp_path)
    drop(qdrant, "docs")
    fill(qdrant, "live", 2)
    alias(qdrant, "docs", "live")
    error = refusal(qdrant, backup)
    assert error.items == ["docs is there an alias of live", "the alias live is there a collection"]


# -- names and settings


def names() -> st.SearchStrategy[str]:
    """What Qdrant takes as a name, and names that look alike."""
    plain = st.text(alphabet="aA0._-", min_size=1, max_size=30)
    odd = st.text(st.characters(blacklist_characters='<>:"/\\|?*\0\x1f', blacklist_categories=["Cs"]), min_size=1)
    return plain | odd | st.integers(0, 12).map(lambda number: f"collection-{number:03d}")


@given(st.lists(names(), unique=True, max_size=30), st.integers(1, 12))
def test_every_snapshot_has_a_path_of_its_own_that_a_set_takes(wanted: list[str], nodes: int) -> None:
    found = paths(wanted, nodes)
    assert set(found) == {(name, node) for name in wanted for node in range(nodes)}
    assert len({path.lower() for path in found.values()}) == len(found)
    assert all(safe_path(path) and len(path) <= MOST_PATH for path in found.values())
    assert paths(wanted, nodes) == found


@given(names())
def test_a_name_stays_one_part_of_an_address(name: str) -> None:
    url = httpx.URL(f"http://host/prefix/collections/{in_url(name)}/snapshots")
    parts = url.raw_path.decode().split("/")
    assert parts[:3] == ["", "prefix", "collections"]
    assert parts[4:] == ["snapshots"]
    assert httpx.URL(f"http://host/{parts[3]}").path == f"/{name}" or not name.strip(".")


@settings(max_examples=8, deadline=None)
@given(st.lists(names().filter(lambda name: name.strip(".") and len(name) < 60), unique=True, min_size=1, max_size=4))
def test_collections_of_any_name_come_back(
    one: StandIn, tmp_path_factory: pytest.TempPathFactory, wanted: list[str]
) -> None:
    one.reset()
    for number, name in enumerate(wanted, 1):
        fill(one, name, number)
    backup = backed_up(one, tmp_path_factory.mktemp("set"))
    drop(one, *wanted)
    with component(one) as found:
        found.restore(backup, OPTIONS, Silent())
        compared = found.compare(backup, Silent())
    assert compared.differences == ()
    assert "\n" not in compared.counted
    assert {each["name"] for each in ask(one, "GET", "/collections")["collections"]} == set(wanted)
    assert one.left() == []


def test_the_settings_make_the_component(cluster: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QDRANT_URL", " , ".join(cluster.urls))
    monkeypatch.setenv("QDRANT_API_KEY", f"{KEY}\n")  # as it comes from a file
    with contextlib.closing(QdrantComponent.from_settings(load())) as found:
        found.connect()
        assert len(found.cluster.nodes) == 3
    monkeypatch.delenv("QDRANT_URL")
    with pytest.raises(UsageError, match="QDRANT_URL is not set"):
        QdrantComponent.from_settings(load())
