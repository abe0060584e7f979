"""How often one address may ask: a token bucket each, for so many addresses as fit; and which address asks."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

from starlette.types import Scope

MOST_ADDRESSES = 50_000


class Buckets:
    """A bucket for each address: `burst` at once, then `rate_per_s`. Who asked longest ago is forgotten first."""

    def __init__(
        self, rate_per_s: float, burst: float, *,
        most: int = MOST_ADDRESSES, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._rate = rate_per_s
        self._burst = burst
        self._most = most
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Take one; return 0, or where none is left how long until there is."""
        if not self._rate:
            return 0.0
        now = self._clock()
        left, at = self._left.get(address, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        allowed = left >= 1.0
        self._left[address] = (left - 1.0 if allowed else left, now)
        self._left.move_to_end(address)
        if len(self._left) > self._most:
            self._left.popitem(last=False)
        return 0.0 if allowed else (1.0 - left) / self._rate


def address_of(scope: Scope, proxies: int) -> str:
    """Return who asks, where `proxies` of ours stand before us, each of which adds to X-Forwarded-For whom it sees.

    What stands further left was written by strangers. An IPv6 address counts by its /64: what one subscriber has.
    """
    address = client_of(scope, proxies)
    return _network(address) if ":" in address else address


def client_of(scope: Scope, proxies: int) -> str:
    """Return the same, with the whole of an IPv6 address."""
    address: str = (scope.get("client") or ("",))[0]
    if proxies:
        said = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
        hops = [hop.strip() for hop in said.decode("latin-1").split(",") if hop.strip()]
        if hops:
            address = hops[-min(proxies, len(hops))]
    return address[:64]


def _network(address: str) -> str:
    try:
        known = ip_address(address.strip("[]"))
    except ValueError:
        return address[:64]
    if isinstance(known, IPv6Address):
        return str(known.ipv4_mapped) if known.ipv4_mapped else known.exploded[:19]
    return str(known)
