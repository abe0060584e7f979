"""What we rely on in Qdrant's REST API, asserted of the stand-in, and of a real Qdrant where QDRANT_URL is set.

    QDRANT_URL=http://127.0.0.1:6333 .venv/bin/pytest tests/backup/test_qdrant_contract.py

Only collections of a random prefix are made, and they are deleted. A cluster is not needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from qdrant_standin import CLIENT, DIMENSIONS, filled, point, standin
from understudy.backup.component import RestoreOptions
from understudy.backup.components.qdrant import QdrantComponent
from understudy.backup.qdrant.node import UPLOADED
from understudy.backup.repositories.local import LocalRepository
from understudy.backup.take import take
from understudy.progress import Silent

KEY = "contract-key"


@dataclass
class Api:
    """A server, and names on it that are ours."""

    url: str
    key: str
    client: httpx.Client
    prefix: str

    def name(self, rest: str = "docs") -> str:
        return f"{self.prefix}{rest}"

    def make(self, points: int, rest: str = "docs", **config: Any) -> str:
        filled(self.url, self.name(rest), points, api_key=self.key, **config)
        return self.name(rest)

    def ask(self, method: str, path: str, expect: int = 200, **words: Any) -> Any:
        reply = self.client.request(method, path, **words)
        assert reply.status_code == expect, reply.text
        return reply.json()["result"] if reply.is_success else reply.json()["status"]["error"]

    def count(self, name: str) -> int:
        return int(self.ask("POST", f"{at(name)}/points/count", json={"exact": True})["count"])

    def snapshot(self, name: str) -> tuple[dict[str, Any], bytes]:
        made = self.ask("POST", f"{at(name)}/snapshots", params={"wait": "true"})
        return made, self.client.get(f"{at(name)}/snapshots/{quote(made['name'], safe='')}").content

    def upload(self, name: str, data: bytes, **params: str) -> httpx.Response:
        files = {"snapshot": (UPLOADED, io.BytesIO(data), "application/octet-stream")}
        words = {"priority": "snapshot", "wait": "true", "checksum": hashlib.sha256(data).hexdigest(), **params}
        return self.client.post(f"{at(name)}/snapshots/upload", params=words, files=files)


def at(name: str) -> str:
    return f"/collections/{quote(name, safe='')}"


@pytest.fixture(scope="module", params=["stand-in", "real"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """URL and key."""
    if request.param == "stand-in":
        with standin(tmp_path_factory.mktemp("qdrant"), api_key=KEY) as running:
            yield running.url, KEY
        return
    # skipped in CI too: no Qdrant server can be installed from a package registry
    url = os.environ.get("QDRANT_URL", "").partition(",")[0]
    if not url:
        pytest.skip("QDRANT_URL names no real Qdrant to compare the stand-in with")
    yield url, os.environ.get("QDRANT_API_KEY", "")


@pytest.fixture
def api(server: tuple[str, str]) -> Iterator[Api]:
    url, key = server
    with httpx.Client(
        base_url=url, headers={"api-key": key} if key else {}, timeout=120, verify=url.startswith("https")
    ) as client:
        found = Api(url, key, client, f"understudy-{secrets.token_hex(4)}-")
        yield found
        for row in client.get("/collections").json()["result"]["collections"]:
            if row["name"].startswith(found.prefix):
                for left in found.ask("GET", f"{at(row['name'])}/snapshots"):
                    client.delete(f"{at(row['name'])}/snapshots/{quote(left['name'], safe='')}")
                client.delete(at(row["name"]))


def test_the_root_tells_the_version(api: Api) -> None:
    answer = api.client.get("/").json()
    assert "qdrant" in answer["title"]
    assert answer["version"].split(".")[0].isdecimal()


def test_collections_are_listed_by_name(api: Api) -> None:
    name = api.make(0)
    assert {"name": name} in api.ask("GET", "/collections")["collections"]


def test_a_collection_tells_how_it_is_set_up(api: Api) -> None:
    name = api.make(0, shard_number=2)
    index = {"field_name": "topic", "field_schema": "integer"}
    api.ask("PUT", f"{at(name)}/index", params={"wait": "true"}, json=index)
    about = api.ask("GET", at(name))
    assert about["status"] in {"green", "yellow", "grey"}
    params = about["config"]["params"]
    assert params["vectors"]["size"] == DIMENSIONS
    assert params["vectors"]["distance"] == "Cosine"
    assert params["shard_number"] == 2
    assert {"hnsw_config", "optimizer_config", "wal_config"} <= about["config"].keys()
    assert about["payload_schema"]["topic"]["data_type"] == "integer"


def test_an_exact_count_sees_every_write_that_was_waited_for(api: Api) -> None:
    name = api.make(137)
    assert api.count(name) == 137
    api.ask("POST", f"{at(name)}/points/delete", params={"wait": "true"}, json={"points": [3, 4]})
    assert api.count(name) == 135


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("POST", "/points/count", {"exact": True}),
        ("POST", "/snapshots", None),
        ("GET", "/cluster", None),
    ],
)
def test_what_is_not_there_is_404_with_a_text(api: Api, method: str, path: str, body: Any) -> None:
    assert api.ask(method, at(api.name("nothing")) + path, expect=404, json=body)


def test_a_snapshot_is_a_tar_file_with_the_size_and_checksum_that_were_told(api: Api) -> None:
    made, data = api.snapshot(api.make(200))
    assert made["name"].endswith(".snapshot")
    assert made["size"] == len(data)
    assert made["checksum"] == hashlib.sha256(data).hexdigest()
    assert made["creation_time"]
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames()


def test_a_snapshot_is_listed_until_it_is_deleted(api: Api) -> None:
    name = api.make(5)
    made, _ = api.snapshot(name)
    assert [row["name"] for row in api.ask("GET", f"{at(name)}/snapshots")] == [made["name"]]
    place = f"{at(name)}/snapshots/{quote(made['name'], safe='')}"
    api.ask("DELETE", place, params={"wait": "true"})
    assert api.ask("GET", f"{at(name)}/snapshots") == []
    api.ask("DELETE", place, expect=404, params={"wait": "true"})
    assert api.client.get(place).status_code == 404


def test_an_upload_replaces_what_the_collection_held(api: Api) -> None:
    name = api.make(100)
    _, data = api.snapshot(name)
    api.ask("POST", f"{at(name)}/points/delete", params={"wait": "true"}, json={"points": list(range(50))})
    extra = [{**point(0), "id": 9_999}]
    api.ask("PUT", f"{at(name)}/points", params={"wait": "true"}, json={"points": extra})
    assert api.upload(name, data).json()["result"] is True
    assert api.count(name) == 100
    rows = api.ask("POST", f"{at(name)}/points/scroll", json={"limit": 200, "with_payload": True})["points"]
    assert {row["id"] for row in rows} == set(range(100))
    assert {row["payload"]["text"] for row in rows} == {point(number)["payload"]["text"] for number in range(100)}


def test_an_upload_makes_the_collection_that_is_not_there_set_up_as_it_was(api: Api) -> None:
    name = api.make(40, shard_number=2, hnsw_config={"m": 24})
    _, data = api.snapshot(name)
    before = api.ask("GET", at(name))["config"]
    api.ask("DELETE", at(name))
    assert api.upload(name, data).is_success
    assert api.count(name) == 40
    assert api.ask("GET", at(name))["config"] == before


def test_the_copy_that_was_uploaded_can_be_deleted_by_its_name(api: Api) -> None:
    name = api.make(5)
    made, data = api.snapshot(name)
    api.ask("DELETE", f"{at(name)}/snapshots/{quote(made['name'], safe='')}")
    assert api.upload(name, data).is_success
    assert {row["name"] for row in api.ask("GET", f"{at(name)}/snapshots")} <= {UPLOADED}
    assert api.client.delete(f"{at(name)}/snapshots/{UPLOADED}").status_code in {200, 404}
    assert api.ask("GET", f"{at(name)}/snapshots") == []
    assert api.count(name) == 5


def test_an_upload_with_another_checksum_is_refused_and_changes_nothing(api: Api) -> None:
    name = api.make(5)
    _, data = api.snapshot(name)
    api.ask("POST", f"{at(name)}/points/delete", params={"wait": "true"}, json={"points": [0]})
    reply = api.upload(name, data, checksum="0" * 64)
    assert 400 <= reply.status_code < 500
    text = reply.json()["status"]["error"].lower()
    assert "checksum" in text
    assert "mismatch" in text
    assert api.count(name) == 4


def test_an_upload_into_a_collection_that_is_set_up_otherwise_is_refused(api: Api) -> None:
    name = api.make(5)
    _, data = api.snapshot(name)
    other = api.name("other")
    api.ask("PUT", at(other), json={"vectors": {"size": DIMENSIONS + 1, "distance": "Cosine"}})
    assert 400 <= api.upload(other, data).status_code < 500
    assert api.ask("GET", at(other))["config"]["params"]["vectors"]["size"] == DIMENSIONS + 1


def test_an_upload_that_is_no_snapshot_is_refused(api: Api) -> None:
    name = api.make(5)
    assert api.upload(name, b"no tar file" * 1000).status_code >= 400
    assert api.count(name) == 5


def test_aliases_are_made_listed_and_switched_in_one_request(api: Api) -> None:
    old, new, alias = api.make(1, "old"), api.make(2, "new"), api.name("live")

    def act(*actions: dict[str, Any]) -> None:
        assert api.ask("POST", "/collections/aliases", json={"actions": actions}) is True

    def of_alias() -> list[str]:
        rows = api.ask("GET", "/aliases")["aliases"]
        return [row["collection_name"] for row in rows if row["alias_name"] == alias]

    act({"create_alias": {"collection_name": old, "alias_name": alias}})
    assert of_alias() == [old]
    assert api.count(alias) == 1
    delete, create = {"alias_name": alias}, {"collection_name": new, "alias_name": alias}
    act({"delete_alias": delete}, {"create_alias": create})
    assert of_alias() == [new]
    assert api.count(alias) == 2
    api.ask("DELETE", at(new))
    assert of_alias() == []  # an alias goes with its collection


def test_an_alias_of_a_collection_that_is_not_there_is_refused(api: Api) -> None:
    create = {"collection_name": api.name("nothing"), "alias_name": api.name("live")}
    api.ask("POST", "/collections/aliases", expect=404, json={"actions": [{"create_alias": create}]})


def test_the_cluster_tells_whether_it_is_one(api: Api) -> None:
    answer = api.ask("GET", "/cluster")
    assert answer["status"] in {"enabled", "disabled"}
    if answer["status"] == "enabled":
        assert str(answer["peer_id"]) in answer["peers"]
        assert all(row["uri"] for row in answer["peers"].values())


def test_a_collection_tells_where_its_shards_are(api: Api) -> None:
    answer = api.ask("GET", f"{at(api.make(3, shard_number=2))}/cluster")
    assert answer["shard_count"] == 2
    assert {row["shard_id"] for row in answer["local_shards"] + answer["remote_shards"]} == {0, 1}
    assert {row["state"] for row in answer["local_shards"]} == {"Active"}
    assert answer["shard_transfers"] == []


@pytest.mark.parametrize("rest", ["a b", "100%", "a%20b", "이름", "a#b", "a+b", "a&b=c", "x.y"])
def test_any_name_that_qdrant_takes_is_reached_by_quoting(api: Api, rest: str) -> None:
    name = api.make(2, rest)
    made, data = api.snapshot(name)
    assert made["size"] == len(data)
    assert api.count(name) == 2


def test_a_wrong_key_is_refused_and_the_root_needs_none(api: Api) -> None:
    if not api.key:
        pytest.skip("this server has no API key")
    for headers in ({}, {"api-key": "wrong"}):
        assert CLIENT.get(f"{api.url}/collections", headers=headers).status_code in {401, 403}
    assert CLIENT.get(f"{api.url}/").is_success


def test_the_component_brings_a_collection_back(api: Api, tmp_path: Path) -> None:
    name = api.make(321, shard_number=2)
    alias = {"create_alias": {"collection_name": name, "alias_name": api.name("live")}}
    api.ask("POST", "/collections/aliases", json={"actions": [alias]})
    component = QdrantComponent([api.url], api_key=api.key, collections=[name])
    with contextlib.closing(component):
        backup = take([component], LocalRepository(tmp_path), None, "local", Silent()).backup
        api.ask("DELETE", at(name))
        component.check_target(backup, RestoreOptions())
        assert component.restore(backup, RestoreOptions(), Silent()).failed == 0
        compared = component.compare(backup, Silent())
    assert compared.counted == f"321 vectors in {name}"
    assert compared.differences == ()
    assert api.ask("GET", f"{at(name)}/snapshots") == []
