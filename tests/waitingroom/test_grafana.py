"""The Grafana dashboard: it asks for numbers that a gateway has, by labels that they have."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from waitingroom.conftest import Served

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "waitingroom.json"
NUMBER = re.compile(r"(waitingroom_\w+)(?:\{([^}]*)\})?")
GIVEN_BY_PROMETHEUS = {"instance", "job"}


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel.get("targets", ())]


def test_every_number_it_asks_for_is_one_of_the_gateway_with_these_labels(served: Served) -> None:
    event = served.event(rate_per_s=1000)
    body = {"event_id": event, "user_id": "ann"}
    served.post("/api/v1/queue/join", body, 201)
    served.refused("DUPLICATE", 409, "POST", "/api/v1/queue/join", json=body)
    served.inside(event, "bob")
    families = text_string_to_metric_families(served.http.get("/metrics").text)
    labels: dict[str, set[str]] = {}
    for sample in (sample for family in families for sample in family.samples):
        labels.setdefault(sample.name, set()).update(sample.labels)

    for text in expressions():
        asked = NUMBER.findall(text)
        assert asked, text
        wanted = {label for words in re.findall(r"by \(([^)]*)\)", text) for label in words.split(", ")}
        for name, filters in asked:
            assert name in labels, f"{name} in {text}"
            both = wanted | set(re.findall(r"(\w+)=", filters))
            assert both <= labels[name] | GIVEN_BY_PROMETHEUS, f"{name} has no {both - labels[name]}"


def test_the_event_is_chosen_from_those_that_have_numbers() -> None:
    chosen = json.loads(DASHBOARD.read_text())["templating"]["list"]
    by_name = {one["name"]: one for one in chosen}
    assert by_name["datasource"]["query"] == "prometheus"
    assert NUMBER.search(by_name["event"]["query"]["query"])


def test_panels_have_names_of_their_own_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels() if panel["type"] != "row")
    for one, other in combinations([panel["gridPos"] for panel in panels()], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above


def test_the_names_of_series_are_labels_that_are_left() -> None:
    for panel in panels():
        for target in panel.get("targets", ()):
            kept = {label for words in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in words.split(", ")}
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept, target
