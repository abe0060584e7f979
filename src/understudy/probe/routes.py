"""The REST endpoints: what each takes, within which bounds, and what it answers."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from understudy.errors import UnderstudyError
from understudy.http.fastapi_problems import documented
from understudy.http.stream import MEDIA_TYPE as NDJSON
from understudy.http.stream import LineStream, Streams
from understudy.probe import metrics as exposition
from understudy.probe.answers import ConnectionMode, Status, connection_mode, status_of
from understudy.probe.clients import ClientList, client_list
from understudy.probe.cluster import ClusterInfo, ClusterSlots, cluster_info, cluster_slots
from understudy.probe.connection import CLIENT_ERRORS, Connection
from understudy.probe.health import Health, HealthChecks
from understudy.probe.judgement import OWN_DRIFT_S
from understudy.probe.keys import MOST_KEYS, KeyRoutings, route_keys
from understudy.probe.metrics import Metrics
from understudy.probe.monitor import monitor
from understudy.probe.recovery import recovery
from understudy.probe.work import Pool, Work

MOST_STREAM_S = 3600
_MODE_WITHIN_S = 5.0
Duration = Annotated[float, Query(gt=0, le=MOST_STREAM_S, description="for how long, in seconds")]
Interval = Annotated[float, Query(ge=0.1, le=60, description="how often, in seconds")]
Drift = Annotated[float, Query(gt=0, le=60, description="how late its own tries may begin, in seconds (p99)")]
Count = Annotated[int, Query(ge=1, le=MOST_KEYS, description="how many keys")]
Prefix = Annotated[
    str, Query(min_length=1, max_length=64, pattern="^[A-Za-z0-9:_.{}-]+$", description="how the keys begin")
]
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "JSON lines, each as it is made", "content": {NDJSON: {"schema": {"type": "string"}}}}
}


def routes(connection: Connection, work: Work, checks: HealthChecks, metrics: Metrics, streams: Streams) -> APIRouter:
    """Return the endpoints of one probe."""
    router = APIRouter(responses=documented(401, 403, 422, 429, 500))
    dead = documented(503)

    @router.get("/redis/status", tags=["connection"])
    async def status() -> Status:
        """PING with the client under test, and with a fresh one; a server that is dead is an answer: 200."""
        return status_of(connection, await checks.pings())

    @router.get("/redis/connection-mode", tags=["failover"])
    async def mode() -> ConnectionMode:
        """How the probe connects, how risky that is in a failover, why, and what to do."""
        with suppress(UnderstudyError):
            await work.do("asking for the mode", connection.reached, _MODE_WITHIN_S, Pool.PINGS)
        return connection_mode(connection)

    @router.get("/redis/health", tags=["connection"], responses={503: {"model": Health, "description": "Unhealthy"}})
    async def health(response: Response) -> Health:
        """Make a health check now; 503 with the same body where something is wrong."""
        found = await checks.check()
        response.status_code = 200 if found.healthy else 503
        return found

    @router.get("/redis/cluster-info", tags=["topology"], responses=dead)
    async def info() -> ClusterInfo:
        """CLUSTER INFO and CLUSTER NODES; outside a cluster, INFO replication and the servers."""
        return await work.do("reading the cluster's state", partial(cluster_info, connection))

    @router.get("/redis/cluster-slots", tags=["topology"], responses=dead)
    async def slots() -> ClusterSlots:
        """Who serves which slots, and which of them the client under test would send elsewhere."""
        return await work.do("reading the slots", partial(cluster_slots, connection))

    @router.get("/redis/client-list", tags=["topology"], responses=dead)
    async def clients() -> ClientList:
        """CLIENT LIST of every server."""
        return await work.do("listing clients", partial(client_list, connection), pool=Pool.LONG)

    @router.get("/redis/test-keys", tags=["connection"], responses=dead)
    async def keys(count: Count = 5, prefix: Prefix = "test") -> KeyRoutings:
        """Write, read back and remove keys: slot, shard and address of each."""

        def act() -> KeyRoutings:
            try:
                return route_keys(connection, count, prefix)
            except CLIENT_ERRORS as error:
                raise connection.explained("routing keys", error) from error

        return await work.do("routing keys", act, pool=Pool.LONG)

    @router.get("/redis/monitor", tags=["failover"], response_class=Response, responses=_STREAM)
    async def monitored(duration: Duration = 10, interval: Interval = 1) -> LineStream:
        """Changes of the topology as they happen: lines of type `topology`, `heartbeat`, `unreachable` and `end`."""
        return LineStream(monitor(connection, work, duration, interval), streams)

    @router.get("/redis/failover-recovery", tags=["failover"], response_class=Response, responses=_STREAM)
    async def recovered(duration: Duration = 30, interval: Interval = 2, max_drift: Drift = OWN_DRIFT_S) -> LineStream:
        """Write and read with the client under test and with fresh ones: `plan`, `observation` and `verdict` lines."""
        return LineStream(recovery(connection, work, metrics, duration, interval, max_drift), streams)

    @router.get("/metrics", tags=["metrics"], response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def exposed() -> Response:
        """Everything for Prometheus."""
        return Response(metrics.exposed(), media_type=exposition.MEDIA_TYPE)

    return router
