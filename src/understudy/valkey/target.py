"""Which server is meant: addresses, connection mode, credentials and TLS, as one frozen value."""

from __future__ import annotations

import dataclasses
import ssl
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from understudy.errors import UsageError

DEFAULT_SENTINEL_SERVICE = "mymaster"
_SCHEMES = {"redis": False, "rediss": True, "valkey": False, "valkeys": True}


class Mode(StrEnum):
    """How a client reaches the server. `auto` asks the server which of the first three it is."""

    AUTO = "auto"
    STANDALONE = "standalone"
    SENTINEL = "sentinel"
    OSS_CLUSTER = "oss-cluster"
    ENTERPRISE = "enterprise"


class Address(NamedTuple):
    """A host and a TCP port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, default_port: int = 6379) -> Address:
        """Read `host`, `host:port` or `[v6]:port`.

        Raises:
            UsageError: the text is no address.
        """
        try:
            parts = urlsplit(f"//{text.strip()}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or parts.path or "@" in text or port == 0:
            shown = text.rpartition("@")[2]  # what stands before may be a password
            hint = "Write it as 10.0.0.5:6379."
            if "://" in text:
                hint = "A URL belongs into REDIS_URL; an address is written as 10.0.0.5:6379."
            elif len(text.split()) > 1:
                hint = "Write several with commas between: 10.0.0.5:6379,10.0.0.6:6379."
            raise UsageError(f"reading the address {shown!r}", "it is not host:port", hint)
        return cls(host, port or default_port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Tls:
    """How to speak TLS: the CA that signed the servers, a client certificate, whether to check names."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """Return a client context; certificates are checked unless `verify` is off."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(
                f"loading the TLS certificates ({self.ca_file or self.cert_file})",
                str(error),
                "Check REDIS_TLS_CA, REDIS_TLS_CERT and REDIS_TLS_KEY.",
            ) from error
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(frozen=True)
class Target:
    """A server, or several that are one: where it is and how to get in. The password is never in its `repr`."""

    seeds: tuple[Address, ...]
    mode: Mode = Mode.AUTO
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    db: int = 0
    service: str = DEFAULT_SENTINEL_SERVICE
    sentinel_password: str | None = field(default=None, repr=False)
    import_source: bool = False  # see also keys whose time is over: of a server in import mode (Valkey 8.1)

    @classmethod
    def from_url(cls, url: str) -> Target:
        """Read `redis[s]://[user:password@]host:port[/db][?service=…]` (also `valkey://`); several hosts by commas.

        Raises:
            UsageError: the URL cannot be read. The password in it is not repeated.
        """
        scheme, _, rest = url.partition("://")
        if scheme not in _SCHEMES or not rest:
            raise UsageError(
                "reading REDIS_URL",
                f"the scheme must be one of {', '.join(_SCHEMES)}",
                "Write it as redis://user:password@host:6379/0, or rediss:// for TLS.",
            )
        userinfo, _, place = rest.rpartition("@")  # first of all: a password may hold any of the signs below
        user, _, password = userinfo.partition(":")
        place, _, query = place.partition("?")
        hosts, _, tail = place.partition("/")
        if tail and not tail.isdecimal():
            raise UsageError("reading REDIS_URL", "the path must be a database number", "redis://host:6379/0")
        options = parse_qs(query)
        return cls(
            seeds=tuple(Address.parse(host) for host in hosts.split(",")),
            username=unquote(user) or None,
            password=unquote(password) or None,
            tls=Tls() if _SCHEMES[scheme] else None,
            db=int(tail or 0),
            service=options.get("service", [DEFAULT_SENTINEL_SERVICE])[0],
        )

    def at(self, *seeds: Address) -> Target:
        """Return the same target with other addresses."""
        return dataclasses.replace(self, seeds=seeds)

    def with_mode(self, mode: Mode) -> Target:
        """Return the same target, reached in another way."""
        return dataclasses.replace(self, mode=mode)

    def as_data(self) -> dict[str, Any]:
        """Return plain data, password included: for a pipe to our own child process, never for a file or a log."""
        return dataclasses.asdict(self) | {"seeds": [list(seed) for seed in self.seeds]}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Target:
        """Read what `as_data` wrote."""
        seeds = tuple(Address(*seed) for seed in data["seeds"])
        tls = Tls(**data["tls"]) if data["tls"] else None
        return cls(**{**data, "seeds": seeds, "tls": tls, "mode": Mode(data["mode"])})

    def __str__(self) -> str:
        return ",".join(map(str, self.seeds))
