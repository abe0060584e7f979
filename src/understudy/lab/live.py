"""A lab: a layout running for real, and what one can do to its servers."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from understudy.errors import NotFoundError, RefusedError, ServerSaidError, UnderstudyError
from understudy.lab import certificates, containers, docker, runner
from understudy.lab.containers import Box
from understudy.lab.deadline import Deadline
from understudy.lab.layout import BLOCK, HOST, MAX_NODES, Layout, Options, of_kind, running
from understudy.lab.layouts import find_layout
from understudy.lab.layouts.cluster import knows, meet
from understudy.lab.layouts.common import answers, linked
from understudy.lab.ports import taken
from understudy.lab.server import LabNode
from understudy.lab.servers.valkey import Binary, find_binary, version_of
from understudy.lab.talk import ask, info
from understudy.valkey.target import Address, Mode, Target, Tls

UP_WITHIN_S = 30.0
_ENDS_GENTLY_S = 15.0


class Lab:
    """A running lab. Its nodes are numbered as they were started: `node-1`, `sentinel-1`, `proxy`.

    `record` is told the nodes whenever a process is started, before the process does anything.
    """

    def __init__(
        self,
        name: str,
        options: Options,
        directory: Path,
        record: Callable[[tuple[LabNode, ...]], None],
        nodes: tuple[LabNode, ...] = (),
    ) -> None:
        self.name = name
        self.options = options
        self.directory = directory
        self.nodes = nodes
        self._record = record
        self._arrangement: Layout = find_layout(options.layout)
        self._binary: Binary | None = None

    @property
    def layout(self) -> str:
        """Return the layout's name."""
        return self.options.layout

    @property
    def clustered(self) -> bool:
        """Return whether its servers are a cluster."""
        return self.layout in {"cluster", "enterprise"}

    @property
    def adopted(self) -> bool:
        """Return whether somebody else started it, who ends it too."""
        return False

    @property
    def binary(self) -> Binary:
        """Return the server that its nodes are."""
        if self.options.image is None:
            return find_binary(self.options.server)
        if self._binary is None:
            self._binary = self._told_binary() or docker.identify(self.options.image)
        return self._binary

    def bring_up(self, within_s: float = UP_WITHIN_S) -> None:
        """Start every server and make them one usable stack.

        Raises:
            StartError: a server died, or the stack was not usable in time.
        """
        deadline = Deadline(within_s)
        self.nodes = self._arrangement.plan(self.options, self.directory)
        self._launch_in_order(self.nodes, deadline)
        binary = self.binary
        self._arrangement.form(self.nodes, self.options, binary, deadline)
        self._arrangement.await_usable(self.nodes, self.options, deadline)
        self._note(f"{self.layout} usable after {within_s - deadline.left_s:.2f} s on {binary}")

    def heal(self, within_s: float = UP_WITHIN_S) -> list[LabNode]:
        """Start again what died, let go on what was paused, wait until all is usable; return what was started."""
        deadline = Deadline(within_s)
        for node in self.nodes:
            if node.state == "paused":
                self.resume(node)
        dead = [node for node in self.nodes if not node.alive]
        self._launch_in_order(dead, deadline)
        self._arrangement.await_usable(self.nodes, self.options, deadline)
        if dead:
            self._note(f"started again: {', '.join(node.name for node in dead)}")
        return dead

    def target(self, mode: Mode | None = None) -> Target:
        """Return how to reach the lab, in its own mode or another one.

        The cluster behind an `enterprise` endpoint is reached with `Mode.OSS_CLUSTER`, without TLS.
        """
        mode = mode or self._arrangement.mode
        password = self.options.password
        behind = self.layout == "enterprise" and mode is Mode.OSS_CLUSTER
        if behind or (mode is Mode.STANDALONE and self.layout == "sentinel"):
            seeds = tuple(node.address for node in of_kind(self.nodes, "valkey"))
        else:
            seeds = self._arrangement.seeds(self.nodes)
        authority = certificates.files_in(self.directory).authority
        return Target(
            seeds=seeds,
            mode=mode,
            password=password,
            tls=Tls(ca_file=str(authority)) if self.options.tls and not behind else None,
            sentinel_password=password if mode is Mode.SENTINEL else None,
        )

    def env(self, mode: Mode | None = None) -> dict[str, str]:
        """Return the environment in which a program of the project (or yours) finds the lab."""
        target = self.target(mode)
        scheme = "rediss" if target.tls else "redis"
        user = f":{quote(target.password, safe='')}@" if target.password is not None else ""
        values = {
            "REDIS_MODE": target.mode.value,
            "REDIS_NODES": str(target),
            "REDIS_URL": f"{scheme}://{user}{target}",
        }
        if target.password is not None:
            values["REDIS_PASSWORD"] = target.password
        if target.sentinel_password is not None:
            values["REDIS_SENTINEL_PASSWORD"] = target.sentinel_password
        if target.tls and target.tls.ca_file:
            values |= {"REDIS_TLS": "true", "REDIS_TLS_CA": target.tls.ca_file}
        return values

    def node(self, name: str | LabNode) -> LabNode:
        """Return a node by its name or its port, as it is now.

        Raises:
            NotFoundError: no node is called so.
        """
        wanted = name.name if isinstance(name, LabNode) else name
        for node in self.nodes:
            if wanted in {node.name, str(node.address.port)}:
                return node
        raise NotFoundError(
            f"looking for the node {wanted!r} of the lab {self.name}",
            "there is none of that name",
            f"One of: {', '.join(node.name for node in self.nodes)}.",
        )

    def kill(self, node: str | LabNode) -> None:
        """End a node at once, as `kill -9` and `docker kill` do, and wait until it is gone."""
        runner.kill([self.node(node)])

    def pause(self, node: str | LabNode) -> None:
        """Stop a node without ending it (SIGSTOP, `docker pause`): connections stay open and nothing answers."""
        node = self.node(node)
        self._told(node, bool(node.process and node.process.pause()))

    def resume(self, node: str | LabNode) -> None:
        """Let a paused node go on."""
        node = self.node(node)
        self._told(node, bool(node.process and node.process.resume()))

    def start(self, node: str | LabNode, within_s: float = UP_WITHIN_S) -> LabNode:
        """Start a node that died again, with its port and its data, and wait until it answers.

        Returns the node with its new process; one that lives is returned as it is.
        """
        node = self.node(node)
        if node.alive:
            return node
        self._launch([node])
        if node.kind != "envoy":
            self._await_answer(node.name, Deadline(within_s))
        return self.node(node)

    def call(self, node: str | LabNode, *command: str | int | bytes, timeout_s: float = 5.0) -> Any:
        """Run one command on one node and return its reply, strings decoded. Nothing is redirected or retried."""
        return ask(self.node(node), self.options.password, *command, timeout_s=timeout_s)

    def flush(self) -> None:
        """Remove every key and function, on every server; replicas follow their primaries."""
        for node in of_kind(self.nodes, "valkey"):
            try:
                self.call(node, "FLUSHALL")
                if self.binary.knows_7:
                    self.call(node, "FUNCTION", "FLUSH")
            except ServerSaidError as error:
                if not error.why.startswith("READONLY"):
                    raise

    def add_node(self, replica_of: str | LabNode | None = None, within_s: float = UP_WITHIN_S) -> LabNode:
        """Start one more server: empty, met by the cluster if there is one, and made a replica if asked.

        It waits until the new node knows the others and is in sync with its primary.
        """
        if self.options.bridged:
            raise RefusedError(
                f"adding a node to the lab {self.name}", "the ports of its containers were published when it started",
                "A lab on the host's network can: --network host (Linux).",
            )  # fmt: skip
        deadline = Deadline(within_s)
        data = of_kind(self.nodes, "valkey")
        last, primary = data[-1], self.node(replica_of) if replica_of else None
        port = self._free_port(last.address.port)
        number = 1 + max(int(node.name.rpartition("-")[2]) for node in data)
        new = replace(
            last,
            name=f"node-{number}",
            role="replica" if primary else "primary",
            address=Address(HOST, port),
            inner_port=port + last.inner_port - last.address.port,
            directory=self.directory / f"node-{number}",
            log=self.directory / "logs" / f"node-{number}.log",
            process=None,
        )
        self.nodes = (*self.nodes, new)
        self._launch([new])
        self._await_answer(new.name, deadline)
        new = self.node(new)
        password = self.options.password
        if self.clustered:
            for other in data:
                if other.alive:
                    meet(new, other, password)
                    other_id = str(ask(other, password, "CLUSTER", "MYID"))
                    deadline.until(f"introducing {new.name}", lambda other_id=other_id: knows(new, other_id, password))  # type: ignore[misc]
            if primary:
                self.call(new, "CLUSTER", "REPLICATE", str(self.call(primary, "CLUSTER", "MYID")))
        elif primary:
            self.call(new, "REPLICAOF", primary.address.host, primary.address.port)
        deadline.until(f"waiting for {new.name} to be in sync", lambda: linked(new, password), [new])
        return new

    def remove_nodes(self, *nodes: str | LabNode, within_s: float = UP_WITHIN_S) -> None:
        """End nodes for good, all together, remove their data, and have the others forget them. Safe to repeat.

        Raises:
            StartError: one of the others still took one of them for its primary when time was up.
        """
        deadline = Deadline(within_s)
        names = {self.node(node).name for node in nodes}
        gone = [node for node in self.nodes if node.name in names]
        left = tuple(node for node in self.nodes if node.name not in names)
        runner.stop(gone)
        self._arrangement.forget(gone, left, self.options, deadline)
        for node in gone:
            shutil.rmtree(node.directory, ignore_errors=True)
        self.nodes = left
        self._record(self.nodes)

    def stop(self) -> None:
        """End every server; one that keeps its data is asked first, so that it can write everything down."""
        watchers = [node for node in self.nodes if node.kind != "valkey"]
        if self.options.persist:
            runner.stop(watchers)  # or the sentinels would see a failure
            runner.stop(self.nodes, gently_within_s=_ENDS_GENTLY_S)
        else:
            runner.stop(self.nodes)
        if self.options.image is not None:
            containers.sweep(self.directory)
        self._note("stopped")

    def _told(self, node: LabNode, told: bool) -> None:
        if not told:
            raise NotFoundError(f"signalling {node.name} of the lab {self.name}", "it is dead, or so already")

    def _launch_in_order(self, nodes: Sequence[LabNode], deadline: Deadline) -> None:
        """Start the waves of a layout one after the other, each when the one before answers."""
        names = {node.name for node in nodes}
        for wave in self._arrangement.waves(self.nodes):
            launched = [node for node in wave if node.name in names]
            self._launch(launched)
            for node in launched:
                if node.kind != "envoy":
                    self._await_answer(node.name, deadline)

    def _await_answer(self, name: str, deadline: Deadline) -> None:
        node = self.node(name)
        deadline.until(f"starting {name}", lambda: answers(node, self.options.password), [node])

    def _launch(self, nodes: Sequence[LabNode]) -> None:
        if not nodes:
            return
        binary = self.binary
        if self.options.tls:
            certificates.make(self.directory)
        launches = [(node, self._arrangement.argv(node, self.nodes, self.options, binary)) for node in nodes]
        runner.start(launches, self._box(binary), self._replace)

    def _box(self, binary: Binary) -> Box | None:
        options = self.options
        if options.image is None:
            return None
        ports = tuple(node.inner_port for node in self.nodes if node.kind != "envoy")
        return Box(
            self.name, self.layout, self.directory, options.image, options.bridged, binary.path, ports,
            options.port + BLOCK - 1,
        )  # fmt: skip

    def _told_binary(self) -> Binary | None:
        """Ask a server that runs what it is; None where none does."""
        for node in running(self.nodes, "valkey"):
            with contextlib.suppress(UnderstudyError):
                said = info(self.call(node, "INFO", "server"))
                name = said.get("server_name", "redis")
                version = said.get("valkey_version", said["redis_version"])
                return Binary(f"{name}-server", name, version_of(version))
        return None

    def _replace(self, started: Sequence[LabNode]) -> None:
        new = {node.name: node for node in started}
        self.nodes = tuple(new.get(node.name, node) for node in self.nodes)
        self._record(self.nodes)

    def _free_port(self, after: int) -> int:
        """Return a port for one more node: past the last they begin anew, for a lab may be replaced many times."""
        used = {node.address.port for node in self.nodes}
        first = self.options.port
        for step in range(1, MAX_NODES):
            port = first + (after - first + step) % MAX_NODES
            if port not in used and not taken(port):
                return port
        raise RefusedError(f"adding a node to the lab {self.name}", f"it has no port left from {first} on")

    def _note(self, text: str) -> None:
        log = self.directory / "logs" / "lab.log"
        if log.parent.is_dir():
            with log.open("a") as file:
                file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} [{os.getpid()}] {self.name}: {text}\n")
