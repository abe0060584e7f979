"""Every endpoint, in every connection mode, and where no server is there."""

from __future__ import annotations

import pytest

from probe.conftest import serving
from understudy.lab import Lab
from understudy.valkey.slots import key_slot
from understudy.valkey.target import Address, Mode, Target

LAYOUTS = ["standalone", "sentinel", "cluster", "enterprise"]
NOBODY = Target((Address("127.0.0.1", 1),), Mode.STANDALONE, password="secret-word")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_endpoint_answers_in_each_mode(layout: str, request: pytest.FixtureRequest) -> None:
    running: Lab = request.getfixturevalue(f"valkey_{layout}")
    mode = running.target().mode
    with serving(running.target().with_mode(Mode.AUTO) if layout != "sentinel" else running.target()) as probe:
        status = probe.get("/redis/status")
        assert status["connected"] and status["fresh"]["connected"] and not status["stuck"]
        assert 0 < status["latency_ms"] < 5000
        assert status["mode"] == mode

        info = probe.get("/redis/cluster-info")
        assert info["mode"] == mode
        clustered = layout in {"cluster", "enterprise"}
        assert info["state"] == ("ok" if clustered else "none")
        assert info["slots_covered"] == (16384 if clustered else 0)
        assert len(info["nodes"]) == {"standalone": 1, "sentinel": 3, "cluster": 6, "enterprise": 6}[layout]
        assert bool(info["notes"]) is (layout != "cluster")

        slots = probe.get("/redis/cluster-slots")
        assert sum(shard["slot_count"] for shard in slots["shards"]) == (16384 if clustered else 0)
        assert slots["client_view"]["known"] is (layout == "cluster")
        assert slots["client_view"]["stale"] == slots["uncovered"] == []

        keys = probe.get("/redis/test-keys", count=12, prefix="my:app")
        assert (keys["asked"], keys["succeeded"], keys["complete"]) == (12, 12, True)
        assert all(
            one["key"].startswith("my:app:") and one["slot"] == key_slot(one["key"].encode()) for one in keys["keys"]
        )
        assert all(one["address"].startswith("127.0.0.1:") for one in keys["keys"])
        assert set(keys["per_shard"]) <= ({"hidden"} if layout == "enterprise" else {"1", "2", "3"})

        clients = probe.get("/redis/client-list")
        if layout == "enterprise":
            assert clients["clients"] == []
            assert "CLIENT LIST" in clients["notes"][0]
        else:
            assert any(one["fields"]["lib-name"] == "redis-py" for one in clients["clients"])
            assert clients["total"] == len(clients["clients"])

        health = probe.get("/redis/health")
        assert health["healthy"] and [check["name"] for check in health["now"]["checks"]] == [
            "client",
            "fresh",
            "topology",
        ]
        assert health["last"][0] == health["now"]

        how = probe.get("/redis/connection-mode")
        assert (how["mode"], how["client"]) == (mode, "recommended")
        assert how["risk"] in {"low", "medium", "high"} and how["why"] and how["what_to_do"]

        first, *middle, last = probe.lines("/redis/monitor", duration=0.35, interval=0.1)
        assert (first["type"], last["type"]) == ("topology", "end")
        assert first["mode"] == mode
        assert {line["type"] for line in middle} == {"heartbeat"}

        plan, *tries, verdict = probe.lines("/redis/failover-recovery", duration=0.3, interval=0.1)
        assert plan["shards"] == {"standalone": 1, "sentinel": 1, "cluster": 3, "enterprise": 3}[layout]
        assert {one["client"] for one in tries} == {"long-lived", "fresh"}
        assert all(one["ok"] for one in tries)
        assert (verdict["word"], verdict["stuck"], verdict["lost"]) == ("unknown", False, 0)  # nothing failed
        assert running_keys(running) == 0


def running_keys(running: Lab) -> int:
    """Count the keys that are there."""
    from support import names
    from understudy.valkey.router import Router

    behind = running.target(Mode.OSS_CLUSTER) if running.layout == "enterprise" else running.target()
    with Router(behind) as router:
        return len(names(router))


def test_a_dead_server_is_an_answer_and_no_secret_is_in_it() -> None:
    with serving(NOBODY) as probe:
        status = probe.get("/redis/status")
        assert not status["connected"] and not status["stuck"]
        assert "refused" in status["why"] and status["hint"] and status["error"] == "ConnectionError"

        health = probe.get("/redis/health", status=503)
        assert not health["healthy"]

        for path in ("cluster-info", "cluster-slots", "client-list"):
            problem = probe.get(f"/redis/{path}", status=503)
            assert problem["why"] and problem["try"] and problem["retryable"]
            assert problem["status"] == 503

        assert probe.get("/redis/connection-mode")["risk"] == "high"
        keys = probe.get("/redis/test-keys", count=100)
        assert keys["succeeded"] == 0 and not keys["complete"] and keys["tried"] < 100
        assert [one["type"] for one in probe.lines("/redis/monitor", duration=0.15, interval=0.1)] == [
            "unreachable", "unreachable", "end",
        ]  # fmt: skip
        *_, verdict = probe.lines("/redis/failover-recovery", duration=0.2, interval=0.2)
        assert verdict["word"] == "unknown" and not verdict["stuck"] and verdict["lost"] is None
        everything = "".join(probe.http.get(f"/redis/{path}").text for path in ("status", "health", "client-list"))
        assert "secret-word" not in everything + probe.http.get("/metrics").text


def test_a_wrong_password_is_said_and_not_shown(valkey_standalone: Lab) -> None:
    from dataclasses import replace

    with serving(replace(valkey_standalone.target(), username="nobody", password="hunter2-hunter2")) as probe:
        assert not probe.get("/redis/status")["connected"]
        problem = probe.get("/redis/client-list", status=503)
        assert problem["error"] == "NotAuthorisedError"
        assert "hunter2" not in str(problem) + str(probe.get("/redis/status")) + str(probe.get("/redis/health", 503))


def test_the_mode_is_found_once_a_server_answers(valkey_standalone: Lab) -> None:
    with serving(NOBODY.with_mode(Mode.AUTO)) as probe:
        assert probe.get("/redis/connection-mode")["risk"] == "unknown"
        assert not probe.get("/redis/status")["connected"]
        probe.get("/redis/test-keys", status=503)
    with serving(valkey_standalone.target().with_mode(Mode.AUTO)) as probe:
        assert probe.get("/redis/connection-mode")["mode"] == "standalone"


def test_metrics_tell_of_the_clients_the_checks_and_the_answers(valkey_standalone: Lab) -> None:
    with serving(valkey_standalone.target()) as probe:
        probe.get("/redis/health")
        probe.get("/redis/nothing", status=404)
        text = probe.http.get("/metrics").text
        for line in (
            'understudy_probe_up{client="long_lived"} 1.0',
            "understudy_probe_stuck 0.0", "understudy_probe_healthy 1.0",
            "understudy_probe_health_check_interval_seconds 60.0",
            'understudy_probe_http_requests_total{method="GET",route="/redis/health",status="200"} 1.0',
            'understudy_probe_http_requests_total{method="GET",route="none",status="404"} 1.0',
        ):  # fmt: skip
            assert line in text
        assert "understudy_probe_ping_duration_seconds_bucket" in text
