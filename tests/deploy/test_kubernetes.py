"""What the manifests start exists: commands, settings, paths, ports, metrics; and the page shows what can be typed."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from urllib.parse import urlsplit

import anyio
import httpx
import pytest
import typer.main
import yaml
from pydantic import AliasChoices, SecretStr

from deploy.kustomized import KUBERNETES, VARIANTS, Manifest, one, pods, rendered, selects
from docs.markdown import prose
from support import repository_root
from understudy.cli import output
from understudy.cli.main import app
from understudy.http import serve
from understudy.http.stream import Streams
from understudy.operations.tier import SCHEDULED
from understudy.probe.app import Options as ProbeOptions
from understudy.probe.app import make_app
from understudy.probe.connection import ClientKind, Connection
from understudy.settings import Settings, load
from understudy.valkey import configured
from understudy.valkey.target import Address, Target
from understudy.waitingroom.desk import Options
from understudy.waitingroom.serve import gateway
from understudy.waitingroom.tokens import Signer, passing_key

ALL = {variant: rendered(variant) for variant in VARIANTS}
BASE = ALL["base"]
PAGE = (repository_root() / "docs" / "kubernetes.md").read_text()
COMMANDS = typer.main.get_group(app).commands
NOWHERE = Target((Address("127.0.0.1", 9),))
TOKEN = "a token that is long enough".replace(" ", "-")
NOT_SETTINGS = {
    "UNDERSTUDY_HOME",
    "UNDERSTUDY_CONFIG",
    "TMPDIR",
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
}
# kube-state-metrics v2: docs/metrics/workload/{cronjob,job}-metrics.md
OF_KUBE_STATE_METRICS = {
    "kube_cronjob_created", "kube_cronjob_spec_suspend", "kube_cronjob_status_last_successful_time",
    "kube_job_status_failed",
}  # fmt: skip
each_variant = pytest.mark.parametrize("found", ALL.values(), ids=ALL)


def aliases() -> dict[str, bool]:
    """Return the environment names of all settings, and whether each is secret."""
    found = {}
    for about in Settings.model_fields.values():
        alias = about.validation_alias
        for name in alias.choices if isinstance(alias, AliasChoices) else [alias]:
            found[str(name)] = about.annotation in (SecretStr, SecretStr | None)
    return found


def parse(words: list[str]) -> None:
    verb, *arguments = words
    try:
        COMMANDS[verb].make_context(verb, arguments)
    finally:
        output._wanted["json"] = False


@each_variant
def test_every_container_starts_a_command_with_options_that_exist(found: list[Manifest]) -> None:
    for name, template in pods(found):
        (container,) = template["spec"]["containers"]
        if name == "understudy-shell":
            assert container["command"][0] == "sleep" and "args" not in container
        else:
            assert "command" not in container  # the image's entry point
            parse(container["args"])


@each_variant
def test_every_environment_name_is_a_setting(found: list[Manifest]) -> None:
    known = aliases()
    given = one(found, "ConfigMap", "understudy")["data"]
    for name in given:
        assert name in known or name in NOT_SETTINGS, name
    for _, template in pods(found):
        for entry in template["spec"]["containers"][0].get("env", []):
            assert known[entry["name"]], f"{entry['name']} is not secret: settings.env"
    assert not [name for name in given if known.get(name) and not name.endswith("_URL")]


@each_variant
def test_the_settings_can_be_read(found: list[Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in aliases():
        monkeypatch.delenv(name, raising=False)
    for name, value in one(found, "ConfigMap", "understudy")["data"].items():
        monkeypatch.setenv(name, value)
    settings = load()
    assert settings.profile != "local"  # or a server that nobody named would be guessed
    assert configured.target_from(settings) is not None
    mounts = {
        mount["mountPath"]
        for name, template in pods(found) if "backup" in name
        for mount in template["spec"]["containers"][0]["volumeMounts"]
    }  # fmt: skip
    assert str(settings.backup_dir.parent) in mounts  # a directory of ours in the volume, whose root is not ours


def test_the_tiers_run_when_the_settings_say() -> None:
    for tier in SCHEDULED:
        spec = one(BASE, "CronJob", f"understudy-backup-{tier}")["spec"]
        assert spec["schedule"] == Settings.model_fields[f"schedule_{tier}"].default
        assert spec["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["args"][:3] == ["schedule", "run", tier]


@each_variant
def test_jobs_end_and_begin_once(found: list[Manifest]) -> None:
    for cron in (each["spec"] for each in found if each["kind"] == "CronJob"):
        job = cron["jobTemplate"]["spec"]
        assert (
            cron["concurrencyPolicy"] == "Forbid" and cron["timeZone"] == "Etc/UTC" and cron["startingDeadlineSeconds"]
        )
        assert {"successfulJobsHistoryLimit", "failedJobsHistoryLimit"} <= cron.keys()
        assert job["activeDeadlineSeconds"] and job["template"]["spec"]["restartPolicy"] == "Never"
        for rule in job.get("podFailurePolicy", {}).get("rules", []):  # 10 and 13 may pass by themselves
            assert rule["action"] == "Ignore" or not {0, 1, 10, 13} & {*rule["onExitCodes"]["values"]}


def asked(name: str, path: str, token: str | None = None) -> int:
    """Return what a server of ours answers when there is no Redis."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def ask() -> int:
        application = room() if name == "understudy-waitingroom" else probe()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://10.1.2.3") as client:
            return (await client.get(path, headers=headers)).status_code

    def room() -> object:
        return gateway(NOWHERE, Signer(passing_key()), Options())

    def probe() -> object:
        options = ProbeOptions(TOKEN, loopback=False, access_log=False)
        return make_app(Connection(NOWHERE, ClientKind.RECOMMENDED), options, Streams(1, ""))

    return anyio.run(ask)


@pytest.mark.parametrize(
    ("name", "port"), [("understudy-probe", "PORT"), ("understudy-waitingroom", "WAITINGROOM_PORT")]
)
def test_no_outage_of_redis_restarts_a_server_or_takes_it_away(name: str, port: str) -> None:
    pod = one(BASE, "Deployment", name)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
        question = container[kind]["httpGet"]
        assert question["port"] in ports
        assert asked(name, question["path"]) == (503 if question["path"] == "/readyz" else 200)
    assert container["livenessProbe"]["httpGet"]["path"] != "/readyz" != container["readinessProbe"]["httpGet"]["path"]
    default = next(f.default for f in Settings.model_fields.values() if f.validation_alias == port)
    assert ports == {"http": default} and one(BASE, "Service", name)["spec"]["ports"][0]["targetPort"] == "http"
    quiet = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= quiet + serve._ENDS_WITHIN_S + 5


def test_what_prometheus_is_told_to_ask_is_answered() -> None:
    secret = {"name": "understudy-probe", "key": "PROBE_TOKEN"}
    for monitor in (each for each in ALL["example"] if each["kind"] == "ServiceMonitor"):
        (endpoint,) = monitor["spec"]["endpoints"]
        credentials = endpoint.get("authorization", {}).get("credentials")
        assert credentials in (None, secret)
        assert asked(monitor["metadata"]["name"], endpoint["path"], TOKEN if credentials else None) == 200
    assert asked("understudy-probe", "/metrics") == 401
    given = one(BASE, "Deployment", "understudy-probe")["spec"]["template"]["spec"]["containers"][0]["env"][0]
    assert given["valueFrom"]["secretKeyRef"] == secret


def test_alerts_ask_for_figures_that_exist() -> None:
    told = (repository_root() / "docs" / "probe.md").read_text() + (
        repository_root() / "docs" / "waiting-room.md"
    ).read_text()
    ours = set(re.findall(r"`((?:understudy_probe|waitingroom)_\w+)(?:\{[\w,]+\})?`", told))
    known = ours | OF_KUBE_STATE_METRICS
    rules = [
        rule
        for group in one(ALL["example"], "PrometheusRule", "understudy")["spec"]["groups"]
        for rule in group["rules"]
    ]
    assert len({rule["alert"] for rule in rules}) == len(rules) == 11
    for rule in rules:
        asked_for = set(re.findall(r"\b(?:kube|understudy|waitingroom)_\w+", rule["expr"]))
        assert asked_for and asked_for <= known, asked_for - known
        assert rule["labels"]["severity"] and rule["annotations"]["summary"]
    names = {each["metadata"]["name"] for each in BASE if each["kind"] == "CronJob"}
    assert set(re.findall(r'cronjob="([^"]+)"', json.dumps(rules).replace('\\"', '"'))) <= names


def test_the_ingress_shows_visitors_what_is_theirs() -> None:
    (rule,) = one(ALL["example"], "Ingress", "understudy-waitingroom")["spec"]["rules"]
    paths = [path["path"] for path in rule["http"]["paths"]]
    for shown in ("/wait/concert", "/api/v1/queue/join", "/api/v1/seats/hold", "/.well-known/jwks.json"):
        assert any(shown.startswith(path) for path in paths)
    for hidden in ("/", "/metrics", "/api/v1/events", "/healthz", "/readyz"):
        assert not any(hidden.startswith(path) for path in paths)
    args = one(ALL["example"], "Deployment", "understudy-waitingroom")["spec"]["template"]["spec"]["containers"][0][
        "args"
    ]
    assert "--behind-proxy=1" in args


def policies(labels: dict[str, str], direction: str) -> Iterator[Manifest]:
    for policy in (each["spec"] for each in BASE if each["kind"] == "NetworkPolicy"):
        if direction in policy["policyTypes"] and selects(policy["podSelector"], labels):
            yield policy


def ports_of(labels: dict[str, str], direction: str) -> set[int | str]:
    rules = [rule for policy in policies(labels, direction) for rule in policy.get(direction.lower(), [])]
    assert all(
        rule["to" if direction == "Egress" else "from"] and rule["ports"] for rule in rules
    )  # never anybody, anything
    return {port["port"] for rule in rules for port in rule["ports"]}


def test_the_network_is_closed_but_for_what_is_needed() -> None:
    labels = {name: template["metadata"]["labels"] for name, template in pods(BASE)}
    for policy in (each["spec"] for each in BASE if each["kind"] == "NetworkPolicy"):
        assert any(selects(policy["podSelector"], each) for each in labels.values())
    assert not any(
        selects(policy["podSelector"], {"app": "another"}) for policy in policies({"app": "another"}, "Ingress")
    )
    servers = {"understudy-probe", "understudy-waitingroom"}
    for name, each in labels.items():
        assert any("ingress" not in policy for policy in policies(each, "Ingress"))
        assert ports_of(each, "Ingress") == ({"http"} if name in servers else set())
        assert ports_of(each, "Egress") == {53, 6379, 6380, 26379} | (
            set() if name in servers else {5432, 6333, 9000, 443}
        )
    for found in ALL.values():
        data = one(found, "ConfigMap", "understudy")["data"]
        job = ports_of(labels["understudy-backup-daily"], "Egress")
        assert {int(node.rpartition(":")[2]) for node in data["REDIS_NODES"].split(",")} <= job
        assert urlsplit(data.get("POSTGRES_URL", "//a:5432")).port in job


def shown() -> list[list[str]]:
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```$", PAGE, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    spans = re.findall(r"`(kubectl [^`\n]+)`", prose(PAGE))
    return [shlex.split(line) for line in (*lines, *spans) if line.startswith("kubectl ")]


def referred() -> tuple[dict[str, set[str]], set[str]]:
    """Return the secrets with a fixed set of keys, and those whose every key becomes an environment name."""
    fixed: dict[str, set[str]] = {}
    free = set()
    for _, template in pods(BASE):
        (container,) = template["spec"]["containers"]
        free |= {source["secretRef"]["name"] for source in container["envFrom"] if "secretRef" in source}
        for entry in container.get("env", []):
            reference = entry["valueFrom"]["secretKeyRef"]
            fixed.setdefault(reference["name"], set()).add(reference["key"])
        for volume in template["spec"]["volumes"]:
            if secret := volume.get("secret"):
                fixed.setdefault(secret["secretName"], set()).update(item["key"] for item in secret["items"])
    return fixed, free


def test_every_secret_that_is_needed_is_made_on_the_page() -> None:
    fixed, free = referred()
    made: dict[str, set[str]] = {}
    for words in shown():
        if "secret" in words and "create" in words:
            name = words[words.index("generic") + 1]
            made[name] = {word.partition("=")[2] for word in words if word.startswith("--from-file=")}
            for file in (word.partition("=")[2] for word in words if word.startswith("--from-env-file=")):
                made[name] |= set(re.findall(rf"printf '(\w+)=%s\\n' .* > {file}$", PAGE, re.MULTILINE))
    assert made.keys() == fixed.keys() | free
    for name, keys in made.items():
        assert keys == fixed[name] if name in fixed else keys <= aliases().keys() | NOT_SETTINGS
        assert keys
    assert "--from-literal" not in PAGE  # it would stand in `ps`, and in the history of a shell


def test_the_page_shows_commands_about_what_is_there() -> None:
    kinds = {"cronjob": "CronJob", "deploy": "Deployment", "service": "Service", "pvc": "PersistentVolumeClaim"}
    names = {(each["kind"], each["metadata"]["name"]) for each in BASE}
    found = shown()
    assert len(found) > 15
    made = {words[words.index("job") + 1] for words in found if words[-1].startswith("--from=")}
    for words in found:
        if "--" in words:
            parse(words[words.index("--") + 2 :])
            assert words[words.index("--") + 1] == "understudy"
        for word in words:
            kind, _, name = word.removeprefix("--from=").partition("/")
            if word.startswith("deploy/kubernetes/"):
                place = repository_root() / word.replace("/mine", "/example")  # a copy, made on the page
                assert place.is_file() or (place / "kustomization.yaml").is_file(), word
            elif kind in kinds:
                assert (kinds[kind], name) in names, word
            elif kind == "job" and name:
                assert name in made, word


def test_the_page_names_every_object_and_every_component() -> None:
    for manifest in ALL["example"]:
        assert f"`{manifest['metadata']['name']}`" in PAGE or manifest["kind"] in PAGE, manifest["metadata"]["name"]
    for component in (KUBERNETES / "components").iterdir():
        assert f"components/{component.name}" in PAGE
    assert yaml.safe_load((KUBERNETES / "base" / "kustomization.yaml").read_text())["namespace"] == "understudy"
