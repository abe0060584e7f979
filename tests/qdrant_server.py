"""The server behind `qdrant_standin.py`: Qdrant's REST API as far as a backup uses it, from the published description.

This is NOT Qdrant; see there what that means, and what keeps it honest.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import shutil
import tarfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

Document = dict[str, Any]
BLOCK = 1 << 20


@dataclass
class Collection:
    config: Document
    indexes: Document = field(default_factory=dict)
    shards: dict[int, dict[str, Document]] = field(default_factory=dict)  # by number; the id as JSON


class Shared:
    """What all nodes know."""

    def __init__(self, settings: Document) -> None:
        self.folder, self.ports = Path(settings["folder"]), settings["ports"]
        self.key = os.environ.get("STANDIN_KEY", "")
        self.peers = [8_000_000_000_000_000_001 + number for number in range(len(self.ports))]
        self.collections: dict[str, Collection] = {}
        self.aliases: dict[str, str] = {}
        self.seen: list[Document] = []
        # fail_snapshot, fail_delete, fail_recover: a 500 with this text; snapshot_s, recover_s, pause_s: how slow;
        # cut_download, late_504, wrong_checksum, no_checksum; padding: bytes more in a snapshot; version; html;
        # redirect: to this address; states: of shards, by number; resharding: operations under way
        self.switches: Document = {}

    def find(self, name: str) -> tuple[str, Collection]:
        name = self.aliases.get(name, name)
        if name not in self.collections:
            raise HTTPException(404, f"Not found: Collection `{name}` doesn't exist!")
        return name, self.collections[name]

    def owner(self, shard: int) -> int:
        return shard % len(self.ports)

    def snapshots(self, node: int, name: str) -> Path:
        place = self.folder / f"node{node}" / quote(name, safe="")
        place.mkdir(parents=True, exist_ok=True)
        return place


def ok(result: Any, status: int = 200) -> JSONResponse:
    return JSONResponse({"result": result, "status": "ok", "time": 0.001}, status)


def defaults(body: Document) -> Document:
    params = {"shard_number": 1, "replication_factor": 1, "write_consistency_factor": 1, "on_disk_payload": True}
    given = {name: body[name] for name in ("vectors", "sparse_vectors", "shard_number") if name in body}
    hnsw = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000, **body.get("hnsw_config", {})}
    return {
        "params": {**params, **given},
        "hnsw_config": hnsw,
        "optimizer_config": {"deleted_threshold": 0.2, "max_segment_size": None, "flush_interval_sec": 5},
        "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
        "quantization_config": body.get("quantization_config"),
    }


class Node:
    """One node's answers. `node` is its number."""

    def __init__(self, shared: Shared, node: int) -> None:
        self.shared, self.node, self.peer = shared, node, shared.peers[node]

    def routes(self, prefix: str) -> list[Route]:
        c, s = "/collections/{name}", "/collections/{name}/snapshots"
        table: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
            ("GET", "/", self.root), ("GET", "/healthz", self.health), ("GET", "/collections", self.names),
            ("POST", "/collections/aliases", self.change_aliases), ("GET", "/aliases", self.all_aliases),
            ("GET", "/cluster", self.cluster), ("PUT", c, self.create), ("GET", c, self.describe),
            ("DELETE", c, self.drop), ("PUT", f"{c}/index", self.index), ("GET", f"{c}/cluster", self.placement),
            ("PUT", f"{c}/points", self.upsert), ("POST", f"{c}/points/count", self.count),
            ("POST", f"{c}/points/scroll", self.scroll), ("POST", f"{c}/points/delete", self.remove),
            ("GET", s, self.list_snapshots), ("POST", s, self.make_snapshot), ("POST", f"{s}/upload", self.upload),
            ("GET", f"{s}/{{snapshot}}", self.download), ("DELETE", f"{s}/{{snapshot}}", self.delete_snapshot),
            ("GET", "/standin", self.log), ("POST", "/standin", self.switch), ("GET", "/standin/left", self.left),
            ("POST", "/standin/reset", self.reset),
        ]  # fmt: skip
        return [Route(prefix + path, self.guarded(handler), methods=[method]) for method, path, handler in table]

    def guarded(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            shared, path = self.shared, request.url.path
            if "/standin" not in path:
                row = {"node": self.node, "method": request.method, "path": path, "query": request.url.query}
                shared.seen.append(row | {"key": "api-key" in request.headers})
                if shared.switches.get("html"):
                    return HTMLResponse("<html>Please log in</html>")
                if goal := shared.switches.get("redirect"):
                    return RedirectResponse(goal, 307)
                key = request.headers.get("api-key", "")
                if shared.key and handler not in (self.root, self.health) and key != shared.key:
                    wrong = (
                        "Invalid API key or JWT" if key else "Must provide an API key or an Authorization bearer token"
                    )
                    return PlainTextResponse(wrong, 401)
            try:
                return await handler(request)
            except HTTPException as error:
                return JSONResponse({"status": {"error": error.detail}, "time": 0.001}, error.status_code)

        return answer

    def failing(self, switch: str) -> None:
        if text := self.shared.switches.get(switch):
            raise HTTPException(500, f"Service internal error: {text}")

    async def root(self, request: Request) -> Response:
        version = self.shared.switches.get("version", "1.15.4")
        return JSONResponse({"title": "qdrant - vector search engine", "version": version, "commit": "0" * 40})

    async def health(self, request: Request) -> Response:
        return PlainTextResponse("healthz check passed")

    async def log(self, request: Request) -> Response:
        return JSONResponse(self.shared.seen)

    async def switch(self, request: Request) -> Response:
        self.shared.switches.update(await request.json())
        return ok(True)

    async def left(self, request: Request) -> Response:
        return JSONResponse(sorted(str(one) for one in self.shared.folder.rglob("*.snapshot")))

    async def reset(self, request: Request) -> Response:
        shared = self.shared
        shared.collections, shared.aliases, shared.seen, shared.switches = {}, {}, [], {}
        shutil.rmtree(shared.folder, ignore_errors=True)
        return ok(True)

    async def names(self, request: Request) -> Response:
        return ok({"collections": [{"name": name} for name in self.shared.collections]})

    async def create(self, request: Request) -> Response:
        name, body = request.path_params["name"], await request.json()
        if not 0 < len(name) < 256 or set(name) & set('<>:"/\\|?*\0\x1f'):
            raise HTTPException(422, "Validation error in path: [name: collection name cannot contain such characters]")
        if name in self.shared.collections:
            raise HTTPException(409, f"Wrong input: Collection `{name}` already exists!")
        config = defaults(body)
        shards: dict[int, Document] = {number: {} for number in range(config["params"]["shard_number"])}
        self.shared.collections[name] = Collection(config, {}, shards)
        return ok(True)

    async def describe(self, request: Request) -> Response:
        _, collection = self.shared.find(request.path_params["name"])
        return ok({
            "status": "green", "optimizer_status": "ok", "indexed_vectors_count": 0, "segments_count": 2,
            "points_count": sum(map(len, collection.shards.values())),
            "config": collection.config, "payload_schema": collection.indexes,
        })  # fmt: skip

    async def drop(self, request: Request) -> Response:
        there = self.shared.collections.pop(request.path_params["name"], None)
        self.shared.aliases = {a: name for a, name in self.shared.aliases.items() if name in self.shared.collections}
        return ok(there is not None)

    async def index(self, request: Request) -> Response:
        _, collection = self.shared.find(request.path_params["name"])
        body = await request.json()
        collection.indexes[body["field_name"]] = {"data_type": body["field_schema"], "points": 0}
        return ok({"operation_id": 0, "status": "completed"})

    async def placement(self, request: Request) -> Response:
        _, collection = self.shared.find(request.path_params["name"])
        states, under_way = self.shared.switches.get("states", {}), self.shared.switches.get("resharding", [])
        rows = [
            {"shard_id": number, "state": states.get(str(number), "Active"), "peer_id": self.shared.peers[owner]}
            for number in collection.shards
            for owner in [self.shared.owner(number)]
        ]
        local = [
            {
                "shard_id": row["shard_id"],
                "points_count": len(collection.shards[row["shard_id"]]),
                "state": row["state"],
            }
            for row in rows
            if row["peer_id"] == self.peer
        ]
        remote = [row for row in rows if row["peer_id"] != self.peer]
        answer = {"peer_id": self.peer, "shard_count": len(rows), "local_shards": local, "remote_shards": remote}
        return ok({**answer, "shard_transfers": [], "resharding_operations": under_way})

    async def upsert(self, request: Request) -> Response:
        _, collection = self.shared.find(request.path_params["name"])
        for row in (await request.json())["points"]:
            key = json.dumps(row["id"])
            collection.shards[sorted(collection.shards)[hash(key) % len(collection.shards)]][key] = row
        return ok({"operation_id": 0, "status": "completed"})

    async def remove(self, request: Request) -> Response:
        _, collection = self.shared.find(request.path_params["name"])
        for number in (await request.json())["points"]:
            for shard in collection.shards.values():
                shard.pop(json.dumps(number), None)
        return ok({"operation_id": 0, "status": "completed"})

    async def count(self, request: Request) -> Response:
        _, collection = self.shared.find(request.path_params["name"])
        return ok({"count": sum(map(len, collection.shards.values()))})

    async def scroll(self, request: Request) -> Response:
        _, collection = self.shared.find(request.path_params["name"])
        body = await request.json()
        rows = {row["id"]: row for shard in collection.shards.values() for row in shard.values()}
        start = body.get("offset")
        ids = [number for number in sorted(rows, key=str) if start is None or str(number) >= str(start)]
        page, rest = ids[: body.get("limit", 10)], ids[body.get("limit", 10) :]
        return ok({"points": [rows[number] for number in page], "next_page_offset": rest[0] if rest else None})

    # -- aliases

    async def all_aliases(self, request: Request) -> Response:
        rows = [{"alias_name": alias, "collection_name": name} for alias, name in self.shared.aliases.items()]
        return ok({"aliases": rows})

    async def change_aliases(self, request: Request) -> Response:
        new = dict(self.shared.aliases)
        for action in (await request.json())["actions"]:
            ((kind, words),) = action.items()
            if kind == "delete_alias":
                new.pop(words["alias_name"], None)
            elif words["collection_name"] not in self.shared.collections:
                raise HTTPException(404, f"Not found: Collection `{words['collection_name']}` doesn't exist!")
            elif words["alias_name"] in self.shared.collections:
                raise HTTPException(400, f"Bad request: Alias `{words['alias_name']}` is a collection")
            else:
                new[words["alias_name"]] = words["collection_name"]
        self.shared.aliases = new  # all at once
        return ok(True)

    async def cluster(self, request: Request) -> Response:
        if len(self.shared.ports) == 1:
            return ok({"status": "disabled"})
        peers = {str(peer): {"uri": f"http://10.0.0.{n}:6335/"} for n, peer in enumerate(self.shared.peers)}
        return ok({"status": "enabled", "peer_id": self.peer, "peers": peers, "consensus_thread_status": {}})

    # -- snapshots

    def described(self, place: Path) -> Document:
        checksum = place.with_suffix(".checksum")
        made = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(place.stat().st_mtime))
        return {
            "name": place.name, "creation_time": made, "size": place.stat().st_size,
            "checksum": checksum.read_text() if checksum.exists() else None,
        }  # fmt: skip

    async def list_snapshots(self, request: Request) -> Response:
        name, _ = self.shared.find(request.path_params["name"])
        return ok([self.described(one) for one in sorted(self.shared.snapshots(self.node, name).glob("*.snapshot"))])

    async def make_snapshot(self, request: Request) -> Response:
        name, collection = self.shared.find(request.path_params["name"])
        self.failing("fail_snapshot")
        stamp = f"{time.strftime('%Y-%m-%d-%H-%M-%S')}-{time.monotonic_ns()}"
        place = self.shared.snapshots(self.node, name) / f"{name}-{self.peer}-{stamp}.snapshot"
        with tarfile.open(place, "w", format=tarfile.GNU_FORMAT) as archive:
            self.member(archive, "config.json", {"config": collection.config, "indexes": collection.indexes})
            for number, rows in collection.shards.items():
                if self.shared.owner(number) == self.node:
                    self.member(archive, f"{number}/points.json", list(rows.values()))
            if padding := self.shared.switches.get("padding"):
                info = tarfile.TarInfo("0/segments/vectors.mmap")
                info.size = padding
                archive.addfile(info, open("/dev/zero", "rb"))  # noqa: SIM115, PTH123
        await asyncio.sleep(
            self.shared.switches.get("snapshot_s", 0)
        )  # goes on when the client is gone, as Qdrant does
        digest = hashlib.sha256()
        with place.open("rb") as file:
            while data := file.read(BLOCK):
                digest.update(data)
        if self.shared.switches.get("late_504"):
            raise HTTPException(504, "a proxy did not wait")
        if not self.shared.switches.get("no_checksum"):
            wrong = self.shared.switches.get("wrong_checksum")
            place.with_suffix(".checksum").write_text("0" * 64 if wrong else digest.hexdigest())
        return ok(self.described(place))

    @staticmethod
    def member(archive: tarfile.TarFile, path: str, document: Any) -> None:
        data = json.dumps(document).encode()
        info = tarfile.TarInfo(path)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))

    def one(self, request: Request) -> Path:
        name, _ = self.shared.find(request.path_params["name"])
        place = self.shared.snapshots(self.node, name) / Path(request.path_params["snapshot"]).name
        if not place.exists():
            raise HTTPException(404, f"Not found: Snapshot {place.name} not found")
        return place

    async def download(self, request: Request) -> Response:
        place = self.one(request)
        cut, pause_s = self.shared.switches.get("cut_download"), self.shared.switches.get("pause_s", 0)

        async def blocks() -> AsyncIterator[bytes]:
            left = place.stat().st_size // 2 if cut else place.stat().st_size
            with place.open("rb") as file:
                while left and (data := file.read(min(BLOCK, left))):
                    left -= len(data)
                    yield data
                    await asyncio.sleep(pause_s)

        headers = {"content-length": str(place.stat().st_size)}
        return StreamingResponse(blocks(), media_type="application/octet-stream", headers=headers)

    async def delete_snapshot(self, request: Request) -> Response:
        place = self.one(request)
        self.failing("fail_delete")
        place.unlink()
        place.with_suffix(".checksum").unlink(missing_ok=True)
        return ok(True)

    async def upload(self, request: Request) -> Response:
        name, query = request.path_params["name"], request.query_params
        name = self.shared.aliases.get(name, name)
        file_name, place = await self.received(request, name)
        sha256 = await asyncio.to_thread(lambda: hashlib.file_digest(place.open("rb"), "sha256").hexdigest())
        if query.get("checksum", sha256).lower() != sha256:
            place.unlink()
            raise HTTPException(400, f"Snapshot checksum mismatch: expected {query['checksum']}, got {sha256}")
        place = place.rename(place.with_name(file_name))  # and there it stays, as in Qdrant
        await asyncio.sleep(self.shared.switches.get("recover_s", 0))
        self.failing("fail_recover")
        self.recover(name, place, query.get("priority", "replica"))
        return ok(True)

    async def received(self, request: Request, name: str) -> tuple[str, Path]:
        """Write the one file of a multipart body to the disk, without ever holding it."""
        place = self.shared.snapshots(self.node, name) / f"upload-{time.monotonic_ns()}"
        head, file_name = b"", ""
        end = b"\r\n--" + request.headers["content-type"].partition("boundary=")[2].encode() + b"--\r\n"
        with place.open("wb") as file:
            async for data in request.stream():
                rest = data
                if not file_name:
                    head += data
                    if b"\r\n\r\n" not in head:
                        continue
                    top, _, rest = head.partition(b"\r\n\r\n")
                    if b'name="snapshot"' not in top:
                        raise HTTPException(400, "Multipart error: Field with name 'snapshot' is required")
                    file_name = top.partition(b'filename="')[2].partition(b'"')[0].decode() or "upload"
                file.write(rest)
            size = file.tell() - len(end)
            file.truncate(size)
        return Path(file_name).name, place

    def recover(self, name: str, place: Path, priority: str) -> None:
        try:
            with tarfile.open(place) as archive:
                documents = {
                    member.name: json.load(archive.extractfile(member))  # type: ignore[arg-type]
                    for member in archive
                    if member.name.endswith(".json")
                }
            about = documents.pop("config.json")
        except (tarfile.TarError, ValueError, KeyError) as error:
            raise HTTPException(500, f"Service internal error: failed to unpack snapshot: {error}") from error
        if name not in self.shared.collections:
            numbers = range(about["config"]["params"]["shard_number"])
            self.shared.collections[name] = Collection(about["config"], about["indexes"], {n: {} for n in numbers})
        collection = self.shared.collections[name]
        for part in ("vectors", "shard_number"):
            if collection.config["params"].get(part) != about["config"]["params"].get(part):
                raise HTTPException(400, f"Bad request: Snapshot is not compatible with existing collection: {part}")
        collection.indexes = about["indexes"]
        if len(self.shared.ports) > 1 and priority == "replica":
            return
        for path, rows in documents.items():
            collection.shards[int(path.partition("/")[0])] = {json.dumps(row["id"]): row for row in rows}


async def main(settings: Document) -> None:
    shared = Shared(settings)
    certificate, _, key = settings["tls"].partition(":")
    files = {"ssl_certfile": certificate, "ssl_keyfile": key} if key else {}
    common = {"host": settings["host"], "log_level": "critical", "lifespan": "off", **files}
    servers = []
    for number, port in enumerate(settings["ports"]):
        app = Starlette(routes=Node(shared, number).routes(settings["prefix"]))
        servers.append(uvicorn.Server(uvicorn.Config(app, port=port, **common)))
    await asyncio.gather(*(server.serve() for server in servers))


if __name__ == "__main__":
    asyncio.run(main(json.loads(os.environ["STANDIN"])))
