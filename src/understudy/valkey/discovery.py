"""Ask servers how they are arranged: one view of the topology, in any mode."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from understudy.errors import NotAuthorisedError, NotFoundError, ServerSaidError, UnreachableError, UsageError
from understudy.valkey.target import Address, Mode, Target
from understudy.valkey.topology import Topology
from understudy.valkey.wire import Reply, ReplyError, Wire, error_for

Open = Callable[[Address], Wire]

NO_CLUSTER_HINT = "REDIS_MODE is wrong: set it to what the server is (standalone, say), or leave it out."
ACL_HINT = "The user may not run CLUSTER: ACL SETUSER NAME +cluster, or name another user."
_NO_CLUSTER = "cluster support disabled"
_TELLS_WITHIN_S = 4.0  # one that is stopped takes connections and says nothing: then another is asked


def pairs(reply: Reply) -> dict[str, str]:
    """Return a flat RESP2 array `[name, value, …]` as a dict of text."""
    words = [word.decode() if isinstance(word, bytes) else str(word) for word in reply]
    return dict(zip(words[::2], words[1::2], strict=True))


def info(wire: Wire, section: str = "server") -> dict[str, str]:
    """Return one section of INFO as a dict of text."""
    return parse_info(wire.call("INFO", section))


def parse_info(reply: bytes) -> dict[str, str]:
    """Read an answer of INFO: `name:value` lines."""
    lines = reply.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def now_ms(wire: Wire) -> int:
    """Return the server's clock in milliseconds. Envoy answers TIME itself, with whole seconds in both numbers."""
    seconds, micros = wire.call("TIME")
    return int(seconds) * 1000 + int(micros) % 1_000_000 // 1000


def server_version(wire: Wire) -> tuple[str, str]:
    """Return the server's name and version, as `("valkey", "9.1.2")` or `("redis", "7.0.15")`."""
    facts = info(wire)
    if version := facts.get("valkey_version"):
        return "valkey", version
    return "redis", facts.get("redis_version", "unknown")


def detect_mode(target: Target) -> Mode:
    """Ask the first seed that answers what it is: a proxy before a cluster says itself that it is one.

    Raises:
        UsageError: it does not tell; a guess could show only a part of the keys.
    """
    with _first(target.seeds, lambda address: Wire(address, target)) as wire:
        try:
            facts = info(wire)
        except ServerSaidError as error:
            raise UsageError(
                f"asking {wire.address} what it is", error.why, f"Set REDIS_MODE to one of {', '.join(Mode)}."
            ) from error
        return mode_from(facts, wire.pipeline([("CLIENT", "ID")])[0])


def mode_from(facts: dict[str, str], client_id: Reply) -> Mode:
    """Return the mode that a server's INFO and its answer to CLIENT ID mean."""
    kind = facts.get("redis_mode") or facts.get("server_mode", "standalone")
    if kind == "cluster" and "proxy" in str(client_id):
        return Mode.ENTERPRISE
    return {"cluster": Mode.OSS_CLUSTER, "sentinel": Mode.SENTINEL}.get(kind, Mode.STANDALONE)


def refuse_wrong_mode(target: Target) -> None:
    """Refuse a mode in which we would see only a part of what is there: one node of a cluster, say.

    Raises:
        UsageError: the server is not what the mode says.
    """
    try:
        found = detect_mode(target)
    except UsageError:
        if target.mode is Mode.AUTO:
            raise
        found = target.mode  # it does not tell what it is; then what we were told holds
    misread = {
        Mode.OSS_CLUSTER: (Mode.STANDALONE, Mode.ENTERPRISE),  # only one shard would be seen
        Mode.SENTINEL: (Mode.STANDALONE, Mode.OSS_CLUSTER, Mode.ENTERPRISE),
        Mode.STANDALONE: (Mode.OSS_CLUSTER, Mode.SENTINEL),
        Mode.ENTERPRISE: (Mode.STANDALONE, Mode.SENTINEL),
    }
    if target.mode in misread.get(found, ()):
        raise UsageError(
            f"reaching {target} as {target.mode}", f"what answers there is {found}",
            f"Set REDIS_MODE={found}, or leave it out.",
        )  # fmt: skip
    mode = found if target.mode is Mode.AUTO else target.mode
    if len(target.seeds) > 1 and mode in (Mode.STANDALONE, Mode.ENTERPRISE):
        raise UsageError(
            f"reaching {target} as {mode}", f"{len(target.seeds)} addresses are given, and this mode has one",
            "Name one of them in REDIS_NODES; back up several servers one by one.",
        )  # fmt: skip


def discover(target: Target, known: Iterable[Address] = ()) -> Topology:
    """Return the arrangement behind a target whose mode is known.

    Seeds are always asked first, then every node seen before: a seed is never forgotten, so that a stable
    endpoint still finds the way after all nodes behind it were replaced (see FACTS: idle clients).

    Raises:
        UnreachableError: nobody answered.
        NotAuthorisedError: somebody answered and refused us.
        UsageError: the mode says that it is a cluster, and it is none.
    """
    addresses = tuple(dict.fromkeys((*target.seeds, *known)))
    if target.mode is Mode.SENTINEL:
        return _from_sentinels(target)
    if target.mode is Mode.OSS_CLUSTER:
        return _from_cluster(target, addresses)
    if target.mode is Mode.AUTO:
        raise ValueError("detect the mode first")
    return Topology.from_single(target.seeds[0], target.mode)


def _first(addresses: Iterable[Address], open_wire: Open) -> Wire:
    reasons: list[str] = []
    hint = ""
    for address in addresses:
        try:
            return open_wire(address)
        except UnreachableError as error:
            reasons.append(f"{address} ({error.why})")
            hint = hint or error.hint
    raise UnreachableError("looking for a server", f"none answered: {', '.join(reasons)}", hint)


def _from_sentinels(target: Target) -> Topology:
    seen: list[Exception] = []
    sentinels = Target(target.seeds, Mode.SENTINEL, None, target.sentinel_password, target.tls)
    for address in target.seeds:
        try:
            with Wire(address, sentinels, _TELLS_WITHIN_S) as wire:
                primary = wire.call("SENTINEL", "MASTER", target.service)
                replicas = wire.call("SENTINEL", "REPLICAS", target.service)
        except (UnreachableError, NotAuthorisedError, ServerSaidError) as error:
            seen.append(error)
            continue
        return Topology.from_sentinel(pairs(primary), map(pairs, replicas))
    for refusal in seen:
        if isinstance(refusal, NotAuthorisedError):
            raise refusal
        if isinstance(refusal, ServerSaidError):
            raise NotFoundError(
                f"asking {target} for the service {target.service!r}", refusal.why, "Name it with ?service=NAME."
            ) from refusal
    raise UnreachableError("looking for a sentinel", f"none answered: {target}", "Are the sentinels up?")


def _from_cluster(target: Target, addresses: tuple[Address, ...]) -> Topology:
    """Take the first view of a cluster that calls itself ok; failing that, the first view at all."""
    fallback: Topology | None = None
    refused: NotAuthorisedError | UsageError | None = None
    reasons: list[str] = []
    for address in addresses:
        try:
            with Wire(address, target, _TELLS_WITHIN_S) as wire:
                state, nodes = wire.pipeline([("CLUSTER", "INFO"), ("CLUSTER", "NODES")])
        except UnreachableError as error:
            reasons.append(f"{address} ({error.why})")
            continue
        except NotAuthorisedError as error:
            refused = error
            continue
        if isinstance(nodes, ReplyError):
            refused = refusal_for(address, nodes) or refused
            reasons.append(f"{address} ({nodes})")
            continue
        view = Topology.from_cluster_nodes(nodes.decode(), address)
        if not isinstance(state, ReplyError) and b"cluster_state:ok" in state and not view.missing_slots:
            return view
        fallback = fallback or view
    if fallback:
        return fallback
    if refused:
        raise refused
    raise UnreachableError(
        "looking for the cluster", f"no node answered: {', '.join(reasons)}",
        "Is it up, and are REDIS_NODES right? `understudy status` lists the labs of this machine.",
    )  # fmt: skip


def refusal_for(address: Address, reply: ReplyError) -> NotAuthorisedError | UsageError | None:
    """Return the error for a refused CLUSTER NODES that trying again does not change; None for one that it may."""
    error = error_for(address, ("CLUSTER NODES",), reply)
    if isinstance(error, NotAuthorisedError):
        error.hint = ACL_HINT if error.why.startswith("NOPERM") else error.hint
        return error
    if no_cluster(error.why):
        return UsageError(f"asking {address} for the nodes of its cluster", error.why, NO_CLUSTER_HINT)
    return None


def no_cluster(reply: str) -> bool:
    """Return whether an error reply says that the server is part of no cluster."""
    return _NO_CLUSTER in reply
