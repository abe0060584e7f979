"""Have a replica take over while its primary lives, and wait until it has."""

from __future__ import annotations

import contextlib
import time

from understudy.errors import RefusedError, ServerSaidError
from understudy.lab.deadline import Deadline
from understudy.lab.layout import of_kind, running
from understudy.lab.live import Lab
from understudy.lab.server import LabNode
from understudy.lab.servers.sentinel import SERVICE
from understudy.lab.talk import fields

WITHIN_S = 30.0
_ASK_AGAIN_S = 6.0  # a server gives up a manual failover after 5 s, and does not tell


def is_primary(lab: Lab, node: LabNode) -> bool:
    """Return whether a node calls itself primary."""
    return bool(lab.call(node, "ROLE")[0] == "master")


def promote(lab: Lab, replica: LabNode, within_s: float = WITHIN_S) -> None:
    """Have a replica of a cluster take over gracefully (`CLUSTER FAILOVER`): nothing acknowledged is lost.

    It has when every running node of the cluster says that the old primary follows it. One that is primary stays it.

    Raises:
        StartError: that was not so in time.
    """
    role, _, port, *_ = map(str, lab.call(replica, "ROLE"))
    if role == "master":
        return
    old = lab.node(port)
    asked_at = float("-inf")

    def promoted() -> bool:
        nonlocal asked_at
        if is_primary(lab, replica):
            return True
        if time.monotonic() > asked_at + _ASK_AGAIN_S:
            asked_at = time.monotonic()
            lab.call(replica, "CLUSTER", "FAILOVER")
        return False

    deadline = Deadline(within_s)
    deadline.until(f"promoting {replica.name}", promoted, [replica])
    new_id = str(lab.call(replica, "CLUSTER", "MYID"))
    for node in running(lab.nodes, "valkey"):
        deadline.until(
            f"waiting for {node.name} to hear that {old.name} follows {replica.name}",
            lambda node=node: _follows(lab, node, old, new_id),  # type: ignore[misc]
        )


def _follows(lab: Lab, asked: LabNode, node: LabNode, primary_id: str) -> bool:
    """Return whether a node of a cluster, as the one that is asked sees it, is the replica of a primary."""
    lines = (line.split(" ") for line in str(lab.call(asked, "CLUSTER", "NODES")).splitlines())
    return any(words[1].partition("@")[0] == str(node.address) and words[3] == primary_id for words in lines)


def sentinels_promote(lab: Lab, *, coordinated: bool, within_s: float = WITHIN_S) -> LabNode:
    """Have the sentinels promote a replica, and return it once they all name it and it calls itself primary.

    Coordinated, the primary is paused until the replica has everything; otherwise it goes on acknowledging writes that
    will be lost.

    Raises:
        RefusedError: the sentinels cannot coordinate, which came with Valkey 9.
        StartError: nobody was promoted in time.
    """
    binary = lab.binary
    if coordinated and not binary.is_valkey_9:
        raise RefusedError(
            "asking the sentinels for a coordinated failover", f"{binary} does not know it; it came with Valkey 9",
            "Leave it out: --set coordinated=false",
        )  # fmt: skip
    deadline = Deadline(within_s)
    sentinels = running(lab.nodes, "sentinel")
    before = _named_by(lab, sentinels[0])
    words = ("COORDINATED",) if coordinated else ()

    def begun() -> bool:
        # Right after another failover they refuse for a moment.
        with contextlib.suppress(ServerSaidError):
            return bool(lab.call(sentinels[0], "SENTINEL", "FAILOVER", SERVICE, *words) == "OK")
        return False

    deadline.until("asking the sentinels for a failover", begun, sentinels)
    for sentinel in sentinels:
        deadline.until(
            f"waiting for {sentinel.name} to name another primary",
            lambda sentinel=sentinel: _named_by(lab, sentinel) != before,  # type: ignore[misc]
        )
    new = lab.node(_named_by(lab, sentinels[0]))
    deadline.until(f"waiting for {new.name} to be primary", lambda: is_primary(lab, new), [new])
    return new


def take_over(lab: Lab, replica: LabNode) -> None:
    """Have exactly this replica take over as gracefully as the servers can, in a cluster or under sentinels.

    Sentinels take the replica with the lowest priority; it has that until it is primary.
    """
    if lab.layout != "sentinel":
        promote(lab, replica)
        return
    priority = str(lab.call(replica, "CONFIG", "GET", "replica-priority")[1])
    try:
        lab.call(replica, "CONFIG", "SET", "replica-priority", 1)
        lab.remove_nodes()  # the sentinels look again at who is there, and how
        deadline = Deadline(WITHIN_S)
        for sentinel in of_kind(lab.nodes, "sentinel"):
            deadline.until(
                f"waiting for {sentinel.name} to prefer {replica.name}",
                lambda sentinel=sentinel: _prefers(lab, sentinel, replica),  # type: ignore[misc]
            )
        sentinels_promote(lab, coordinated=lab.binary.is_valkey_9)
        for node in lab.nodes:
            if node.kind != "envoy":
                deadline.until(f"waiting for {node.name} to follow", lambda node=node: _settled(lab, node, replica))  # type: ignore[misc]
    finally:
        lab.call(replica, "CONFIG", "SET", "replica-priority", priority)


def _settled(lab: Lab, node: LabNode, primary: LabNode) -> bool:
    """Return whether a node is through with the failover to a new primary."""
    if node.kind == "sentinel":
        return "failover_in_progress" not in fields(lab.call(node, "SENTINEL", "MASTER", SERVICE))["flags"]
    role, *of = map(str, lab.call(node, "ROLE"))
    return node.name == primary.name or (role == "slave" and of[1:3] == [str(primary.address.port), "connected"])


def _prefers(lab: Lab, sentinel: LabNode, replica: LabNode) -> bool:
    rows = [fields(row) for row in lab.call(sentinel, "SENTINEL", "REPLICAS", SERVICE)]
    return any(row["port"] == str(replica.address.port) and row["slave-priority"] == "1" for row in rows)


def _named_by(lab: Lab, sentinel: LabNode) -> str:
    return str(lab.call(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])
