"""The compose files as text: valid by the Compose Specification, reachable from here only, labelled as labs are."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from support import repository_root

FILES = sorted(repository_root().glob("docker-compose*.yml"))
OURS = "redis-backup-tool:latest"
LABELS = {f"understudy.{name}" for name in ("lab", "layout", "node", "kind", "role", "port")}
_DEFAULT = re.compile(r"\$\{\w+:?-([^}]*)\}")


@cache
def services(path: Path) -> dict[str, dict[str, Any]]:
    return yaml.safe_load(path.read_text())["services"]  # type: ignore[no-any-return]


def filled(text: object) -> str:
    """Return what Compose makes of it where no variable is set."""
    return _DEFAULT.sub(r"\1", str(text))


def labels(service: dict[str, Any]) -> dict[str, str]:
    found = service.get("labels", {})
    if isinstance(found, list):
        found = dict(one.partition("=")[::2] for one in found)
    return {name: str(value) for name, value in found.items() if name.startswith("understudy.")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_is_valid_by_the_compose_specification(path: Path) -> None:
    schema = json.loads(
        resources.files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text()
    )
    document = yaml.safe_load(path.read_text())
    jsonschema.Draft7Validator(schema).validate(document)
    assert "version" not in document  # of which Compose v2 warns


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_it_publishes_is_on_loopback(path: Path) -> None:
    for name, service in services(path).items():
        for port in service.get("ports", []):
            assert filled(port).startswith("127.0.0.1:"), f"{name} publishes {port}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_images_of_others_have_a_version(path: Path) -> None:
    for name, service in services(path).items():
        image = filled(service["image"])
        if image != OURS and not image.startswith("your-"):
            assert re.search(r":[\w.-]+$", image), f"{name}: {image}"
            assert not image.endswith(":latest"), f"{name}: {image}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_labels_of_its_nodes_are_complete_and_true(path: Path) -> None:
    nodes = {name: labels(service) for name, service in services(path).items() if labels(service)}
    if not nodes:
        return
    assert {frozenset(found) for found in nodes.values()} == {frozenset(LABELS)}
    assert len({found["understudy.lab"] for found in nodes.values()}) == 1
    for each in ("understudy.node", "understudy.port"):
        values = [found[each] for found in nodes.values()]
        assert len(set(values)) == len(values), f"{each} twice: {values}"
    for name, found in nodes.items():
        assert found["understudy.layout"] in ("cluster", "sentinel", "standalone")
        assert found["understudy.kind"] == ("sentinel" if found["understudy.role"] == "sentinel" else "valkey"), name
        assert found["understudy.node"].startswith("sentinel-" if found["understudy.kind"] == "sentinel" else "node-")


@pytest.mark.parametrize("name", ["docker-compose.yml", "docker-compose.bridge.yml"])
def test_document_1_has_six_nodes_under_its_names_and_ports(name: str) -> None:
    found = services(repository_root() / name)
    assert set(found) == {*(f"redis-{number}" for number in range(1, 7)), "redis-cluster-entry"}
    for number in range(1, 7):
        node = found[f"redis-{number}"]
        port = f"700{number}"
        assert node["container_name"] == f"redis-{number}"
        assert labels(node)["understudy.port"] == port
        assert labels(node)["understudy.role"] == ("primary" if number <= 3 else "replica")
        assert f"--port {port}" in node["command"]
        assert f"-p {port} ping" in node["healthcheck"]["test"][1]
        assert node.get("ports", [f"127.0.0.1:{port}:{port}"]) == [f"127.0.0.1:{port}:{port}"]
    entry = found["redis-cluster-entry"]
    assert re.findall(r":(700\d)\b", entry["command"]) == [f"700{number}" for number in range(1, 7)]


def test_what_they_mount_is_there() -> None:
    for path in FILES:
        for service in services(path).values():
            for volume in service.get("volumes", []):
                source = volume if isinstance(volume, str) else volume.get("source", "")
                source = filled(source).partition(":")[0]
                if source.startswith("./deploy/"):
                    assert (repository_root() / source).exists(), f"{path.name}: {source}"


def test_no_volume_of_dev_has_the_name_of_one_of_production() -> None:
    """COMPOSE_PROJECT_NAME makes one project of both files; `down -v` of dev must then not remove production's data."""
    dev, prod = (
        set(yaml.safe_load((repository_root() / f"docker-compose.{name}.yml").read_text())["volumes"])
        for name in ("dev", "prod")
    )
    assert dev and prod and not dev & prod
