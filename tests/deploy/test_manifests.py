"""The manifests are what a cluster takes, and hold what docs/kubernetes.md says of them."""

from __future__ import annotations

import copy
import functools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate.utils as schemas
import pytest
import yaml

from deploy import custom_resources
from deploy.kustomized import KUBERNETES, VARIANTS, Manifest, one, pod_of, pods, rendered, selects, template_of
from deploy.pod_security import violations

VERSIONS = ("1.31", "1.37")
ALL = {variant: rendered(variant) for variant in VARIANTS}
PODS = [(f"{variant}: {name}", template) for variant, found in ALL.items() for name, template in pods(found)]
each_variant = pytest.mark.parametrize("found", ALL.values(), ids=ALL)
each_pod = pytest.mark.parametrize("template", [template for _, template in PODS], ids=[name for name, _ in PODS])


@pytest.fixture(scope="module", autouse=True)
def _schemas_are_read_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schemas, "schema_contents", functools.cache(schemas.schema_contents))
        yield


def check(manifest: Manifest, version: str) -> None:
    if "monitoring.coreos.com" in manifest["apiVersion"]:
        custom_resources.check(manifest)
    else:
        schemas.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@each_variant
def test_every_object_is_one_of_its_kind(found: list[Manifest], version: str) -> None:
    for manifest in found:
        check(manifest, version)


def test_a_field_that_does_not_exist_is_noticed() -> None:
    for kind, name, way in (
        ("Deployment", "understudy-probe", ("spec", "template", "spec")),
        ("CronJob", "understudy-shell", ("spec", "jobTemplate", "spec")),
        ("ServiceMonitor", "understudy-probe", ("spec",)),
        ("PrometheusRule", "understudy", ("spec",)),
    ):
        broken: Any = copy.deepcopy(one(ALL["example"], kind, name))
        functools.reduce(lambda place, key: place[key], way, broken)["typo"] = 1
        with pytest.raises((schemas.ValidationError, AssertionError)):
            check(broken, VERSIONS[-1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_kustomize_renders_the_same(variant: str, tmp_path: Path) -> None:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not on the PATH; the manifests are rendered in Python alone")
    up = "../" * (len(tmp_path.resolve().parts) - 1)  # Kustomize takes relative paths only
    first, *components = (f"{up}{(KUBERNETES / name).relative_to('/')}" for name in VARIANTS[variant])
    said = {"kind": "Kustomization", "resources": [first], "components": components}
    (tmp_path / "kustomization.yaml").write_text(json.dumps(said))
    ran = subprocess.run(["kubectl", "kustomize", tmp_path.resolve()], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    plain = re.sub(
        r"\b(name: understudy)-[a-z0-9]{10}$", r"\1", ran.stdout, flags=re.MULTILINE
    )  # the hash of the settings

    def in_order(found: list[Manifest]) -> list[Manifest]:
        return sorted(found, key=lambda each: (each["kind"], each["metadata"]["name"]))

    assert in_order(list(yaml.safe_load_all(plain))) == in_order(ALL[variant])


@each_pod
def test_every_pod_obeys_the_restricted_standard(template: Manifest) -> None:
    assert not violations(template["spec"])


@each_pod
def test_no_pod_can_do_more_than_it_must(template: Manifest) -> None:
    pod = template["spec"]
    assert pod["automountServiceAccountToken"] is False and pod["serviceAccountName"] == "understudy"
    assert pod["enableServiceLinks"] is False  # WAITINGROOM_PORT=tcp://… of a Service would be read as a setting
    assert pod["securityContext"]["runAsUser"] == 10001 == pod["securityContext"]["fsGroup"]
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert "emptyDir" in next(volume for volume in pod["volumes"] if volume["name"] == "tmp")
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted["tmp"] == "/tmp" and mounted.keys() == {volume["name"] for volume in pod["volumes"]}
    assert container["resources"]["limits"]["memory"] and container["resources"]["requests"].keys() == {"cpu", "memory"}


def test_the_check_of_pod_security_notices_what_it_is_for() -> None:
    good = copy.deepcopy(PODS[0][1]["spec"])
    for path, value, why in (
        (("hostNetwork",), True, "hostNetwork"),
        (("volumes", 0), {"name": "host", "hostPath": {"path": "/"}}, "volume hostPath"),
        (("securityContext", "runAsUser"), 0, "runAsUser 0"),
        (("securityContext", "runAsNonRoot"), False, "runAsNonRoot"),
        (("securityContext", "seccompProfile"), {"type": "Unconfined"}, "seccompProfile"),
        (("containers", 0, "securityContext", "privileged"), True, "privileged"),
        (("containers", 0, "securityContext", "allowPrivilegeEscalation"), True, "allowPrivilegeEscalation"),
        (("containers", 0, "securityContext", "capabilities"), {"drop": ["ALL"], "add": ["SYS_ADMIN"]}, "added"),
        (("containers", 0, "securityContext", "capabilities"), {}, "not dropped"),
        (("containers", 0, "ports"), [{"containerPort": 1, "hostPort": 1}], "hostPort"),
    ):
        pod = copy.deepcopy(good)
        place = functools.reduce(lambda found, key: found[key], path[:-1], pod)
        place[path[-1]] = value
        assert any(why in found for found in violations(pod)), (path, violations(pod))
    assert violations({"containers": [{"name": "bare"}]})


def test_the_namespace_enforces_the_restricted_standard() -> None:
    labels = one(ALL["base"], "Namespace", "understudy")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@each_variant
def test_selectors_find_what_they_are_for(found: list[Manifest]) -> None:
    labels = [template["metadata"]["labels"] for _, template in pods(found)]
    services = [each["metadata"]["labels"] for each in found if each["kind"] == "Service"]
    for manifest in found:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "Deployment":
            assert selects(spec["selector"], template_of(manifest)["metadata"]["labels"])  # type: ignore[index]
            chosen = [each for each in labels if selects(spec["selector"], each)]
            for spread in spec["template"]["spec"].get("topologySpreadConstraints", []):
                assert spread["labelSelector"] == spec["selector"]
        elif manifest["kind"] == "Service":
            chosen = [each for each in labels if selects({"matchLabels": spec["selector"]}, each)]
        elif manifest["kind"] == "PodDisruptionBudget":
            chosen = [each for each in labels if selects(spec["selector"], each)]
        elif manifest["kind"] == "ServiceMonitor":
            chosen = [each for each in services if selects(spec["selector"], each)]
        else:
            continue
        assert len(chosen) == 1, manifest["metadata"]["name"]


@each_variant
def test_every_name_that_is_referred_to_is_there(found: list[Manifest]) -> None:
    names = {(each["kind"], each["metadata"]["name"]) for each in found}
    for _, template in pods(found):
        pod = template["spec"]
        assert ("ServiceAccount", pod["serviceAccountName"]) in names
        for volume in pod["volumes"]:
            if claim := volume.get("persistentVolumeClaim"):
                assert ("PersistentVolumeClaim", claim["claimName"]) in names
        for source in pod["containers"][0]["envFrom"]:
            if "configMapRef" in source:
                assert ("ConfigMap", source["configMapRef"]["name"]) in names
    for manifest in found:
        if manifest["kind"] == "HorizontalPodAutoscaler":
            assert ("Deployment", manifest["spec"]["scaleTargetRef"]["name"]) in names
        elif manifest["kind"] == "Ingress":
            for rule in manifest["spec"]["rules"]:
                for path in rule["http"]["paths"]:
                    service = one(found, "Service", path["backend"]["service"]["name"])
                    assert path["backend"]["service"]["port"]["name"] in {p["name"] for p in service["spec"]["ports"]}


@each_variant
def test_the_image_stands_in_one_place(found: list[Manifest]) -> None:
    images = {pod["containers"][0]["image"] for pod in map(pod_of, found) if pod}
    assert len(images) == 1 and ":" in images.pop()
    written = [line for path in KUBERNETES.rglob("*.yaml") for line in re.findall(r"image: .*", path.read_text())]
    assert {*written} == {"image: redis-backup-tool"}  # its tag and its registry are the kustomization's


@each_variant
def test_a_drain_gets_through(found: list[Manifest]) -> None:
    for budget in (each["spec"] for each in found if each["kind"] == "PodDisruptionBudget"):
        assert budget["maxUnavailable"] >= 1 and "minAvailable" not in budget
        assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_the_autoscaler_alone_says_how_many_gateways_there_are() -> None:
    assert one(ALL["base"], "Deployment", "understudy-waitingroom")["spec"]["replicas"] == 2
    assert "replicas" not in one(ALL["example"], "Deployment", "understudy-waitingroom")["spec"]
    scaler = one(ALL["example"], "HorizontalPodAutoscaler", "understudy-waitingroom")["spec"]
    assert 2 <= scaler["minReplicas"] < scaler["maxReplicas"]


@each_variant
def test_nothing_secret_stands_in_a_manifest(found: list[Manifest]) -> None:
    assert not [each for each in found if each["kind"] == "Secret"]
    text = json.dumps(found)
    assert "PRIVATE KEY" not in text and not re.search(r"://[^/\"]*:[^/\"]*@", text)  # user:password@
    for _, template in pods(found):
        for entry in template["spec"]["containers"][0].get("env", []):
            assert entry.keys() == {"name", "valueFrom"} and "secretKeyRef" in entry["valueFrom"]


def test_only_the_jobs_have_the_secrets_of_the_jobs() -> None:
    for name, template in pods(ALL["base"]):
        given = {one["secretRef"]["name"] for one in template["spec"]["containers"][0]["envFrom"] if "secretRef" in one}
        assert ("understudy-backup" in given) is (name not in {"understudy-probe", "understudy-waitingroom"})
