"""What the servers say of themselves during a drill: who calls itself primary, who has stopped answering.

Sentinels are asked whom they name: before the first of them names another primary, no client can know of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from understudy.drill.history import Event
from understudy.drill.shards import Shards
from understudy.errors import UnderstudyError, UnreachableError
from understudy.lab.layout import of_kind
from understudy.lab.live import Lab
from understudy.lab.server import LabNode
from understudy.valkey.target import Address, Target
from understudy.valkey.wire import Wire

_EVERY_S = 0.025
_SILENT_AFTER_S = 0.5


class Watch:
    """Asks every data node of a lab for its role, on and on, also nodes that come later; and every sentinel for the
    primary. A context manager."""

    def __init__(self, lab: Lab, shards: Shards, zero_ns: int) -> None:
        self._lab = lab
        self._shards = shards
        self._zero_ns = zero_ns
        self._over = threading.Event()
        self._threads: dict[str, threading.Thread] = {}
        self._service = lab.target().service
        self._naming = threading.Lock()
        self._named: Address | None = None
        self.events: list[Event] = []

    def note(self, kind: str, node: str, shard: int | None, text: str) -> None:
        """Write an event down."""
        at_us = (time.monotonic_ns() - self._zero_ns) // 1000
        self.events.append(Event(at_us, kind, node, shard, text))

    def __enter__(self) -> Watch:
        self._threads[""] = threading.Thread(target=self._follow, daemon=True)
        self._threads[""].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in list(self._threads.values()):
            thread.join()

    def _follow(self) -> None:
        while not self._over.wait(_EVERY_S):
            nodes = self._lab.nodes
            for node in (*of_kind(nodes, "valkey"), *of_kind(nodes, "sentinel")):
                if node.name not in self._threads:
                    ask = self._ask_sentinel if node.kind == "sentinel" else self._ask
                    thread = threading.Thread(target=ask, args=(node,), daemon=True)
                    self._threads[node.name] = thread
                    thread.start()

    def _answers(self, node: LabNode, *command: str) -> Iterator[tuple[Any, bool]]:
        """Give what a server answers, on and on; nothing and True where it does not, on a new connection."""
        wire = None
        target = Target((node.inner,), password=self._lab.options.password)
        while not self._over.wait(_EVERY_S):
            fresh = wire is None
            try:
                wire = wire or Wire(node.inner, target, _SILENT_AFTER_S)
                answer = wire.call(*command), False
            except UnderstudyError as error:
                if wire is not None:
                    wire.close()
                    wire = None
                answer = None, fresh and isinstance(error, UnreachableError)
            yield answer
        if wire is not None:
            with suppress(UnderstudyError):
                wire.close()

    def _ask(self, node: LabNode) -> None:
        role, answering = "", True
        for said, silent in self._answers(node, "ROLE"):
            if said is None:
                # A server that changes its role closes connections; only one that takes no new one is gone.
                if role and answering and silent:
                    answering = False
                    self.note("gone", node.name, self._shards.of(node.address), f"{node.name} stopped answering")
                continue
            now = "primary" if said[0] == b"master" else "replica"
            belonged = self._shards.of(node.address) is not None  # a new server is not demoted when it joins
            if now == "replica":
                self._shards.adopt(node.address, Address(said[1].decode(), int(said[2])))
            shard = self._shards.of(node.address)
            if not answering:
                answering = True
                self.note("back", node.name, shard, f"{node.name} answers again, as {now}")
            if role and now != role and belonged:
                kind = "promoted" if now == "primary" else "demoted"
                self.note(kind, node.name, shard, f"{node.name} is now {now}")
            role = now

    def _ask_sentinel(self, node: LabNode) -> None:
        named: Address | None = None
        for said, _ in self._answers(node, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service):
            if said:
                now = Address(said[0].decode(), int(said[1]))
                self._is_named(now, changed=named is not None and now != named)
                named = now

    def _is_named(self, primary: Address, *, changed: bool) -> None:
        """Note a switch once, when the first sentinel names another primary; those that follow say nothing new."""
        with self._naming:
            switched = changed and primary != self._named
            if switched or self._named is None:
                self._named = primary
        if switched:
            names = {one.address: one.name for one in self._lab.nodes}
            name = names.get(primary, str(primary))
            self.note("switched", name, self._shards.of(primary), f"the sentinels name {name}")
