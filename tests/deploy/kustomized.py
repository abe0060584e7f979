"""Render our kustomizations in Python: as much of Kustomize as they use, and an error for anything else.

Where `kubectl` is on the PATH, a test holds this against what it renders.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from support import repository_root

Manifest = dict[str, Any]
KUBERNETES = repository_root() / "deploy" / "kubernetes"
VARIANTS: Mapping[str, Sequence[str]] = {
    "base": ["base"],
    "example": ["example"],
    "s3-only": ["base", "components/s3-only"],
}
_CLUSTER_WIDE = {"Namespace"}
_READER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # several times quicker, where libyaml is there


def rendered(variant: str) -> list[Manifest]:
    """Return all objects of a variant: a kustomization, and components laid over it."""
    return copy.deepcopy(_rendered(variant))


@functools.cache
def _rendered(variant: str) -> list[Manifest]:
    first, *components = VARIANTS[variant]
    found: list[Manifest] = []
    for name in (first, *components):
        _render(KUBERNETES / name, found)
    return found


def _render(folder: Path, found: list[Manifest]) -> None:
    said = yaml.load((folder / "kustomization.yaml").read_text(), _READER)
    for known in ("apiVersion", "kind"):
        said.pop(known)
    for name in said.pop("resources", []):
        if (folder / name).is_dir():
            _render(folder / name, found)
        else:
            found += [one for one in yaml.load_all((folder / name).read_text(), _READER) if one]
    for made in said.pop("configMapGenerator", []):
        _config_map(folder, made, found)
    for name in said.pop("components", []):
        _render(folder / name, found)
    for patch in said.pop("patches", []):
        _patch(patch, found)
    if namespace := said.pop("namespace", None):
        for one in found:
            if one["kind"] not in _CLUSTER_WIDE:
                one["metadata"]["namespace"] = namespace
    for image in said.pop("images", []):
        for pod in map(pod_of, found):
            for container in pod["containers"] if pod else []:
                if container["image"].partition(":")[0] == image["name"]:
                    container["image"] = f"{image.get('newName', image['name'])}:{image['newTag']}"
    assert not said, f"{folder}: not known here: {', '.join(said)}"


def _config_map(folder: Path, made: Manifest, found: list[Manifest]) -> None:
    lines = [line for name in made["envs"] for line in (folder / name).read_text().splitlines()]
    data = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    if made.get("behavior") == "merge":
        one(found, "ConfigMap", made["name"])["data"].update(data)
    else:
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": made["name"]}, "data": data})


def _patch(patch: Manifest, found: list[Manifest]) -> None:
    target = patch["target"]
    chosen = [
        one for one in found
        if one["kind"] == target["kind"] and target.get("name", one["metadata"]["name"]) == one["metadata"]["name"]
    ]  # fmt: skip
    assert chosen, f"{target} is not there"
    body = yaml.safe_load(patch["patch"])
    if isinstance(body, dict):
        assert body["$patch"] == "delete"
        for one in chosen:
            found.remove(one)
        return
    for one in chosen:
        for step in body:
            *way, last = step["path"].strip("/").split("/")
            place: Any = one
            for part in way:
                place = place[int(part)] if isinstance(place, list) else place[part]
            value = copy.deepcopy(step.get("value"))
            if step["op"] == "add" and last == "-":
                place.append(value)
            elif step["op"] == "replace":
                place[int(last) if isinstance(place, list) else last] = value
            elif step["op"] == "remove":
                del place[last]
            else:
                raise AssertionError(step)


def one(found: list[Manifest], kind: str, name: str) -> Manifest:
    return next(each for each in found if each["kind"] == kind and each["metadata"]["name"] == name)


def template_of(manifest: Manifest) -> Manifest | None:
    """Return the pod template of an object that makes pods."""
    spec = manifest.get("spec", {})
    found: Manifest | None = spec.get("jobTemplate", {}).get("spec", spec).get("template")
    return found


def pod_of(manifest: Manifest) -> Manifest | None:
    template = template_of(manifest)
    return template["spec"] if template else None


def pods(found: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Give the name and the pod template of everything that makes pods."""
    for manifest in found:
        if template := template_of(manifest):
            yield manifest["metadata"]["name"], template


def selects(selector: Manifest, labels: Mapping[str, str]) -> bool:
    """Tell whether a label selector selects these labels."""
    for rule in selector.get("matchExpressions", []):
        assert rule["operator"] == "In", rule
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
