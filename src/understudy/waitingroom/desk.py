"""What the routes of one gateway share."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from urllib.parse import urlsplit

from understudy.http.answer import Request
from understudy.http.buckets import Buckets
from understudy.waitingroom.health import Health
from understudy.waitingroom.keeper import Keeper
from understudy.waitingroom.metrics import Metrics
from understudy.waitingroom.paces import Paces
from understudy.waitingroom.pulse import Pulse
from understudy.waitingroom.push import Hub
from understudy.waitingroom.refusals import ProblemError
from understudy.waitingroom.room import Room
from understudy.waitingroom.seatmaps import SeatMaps
from understudy.waitingroom.together import Together
from understudy.waitingroom.tokens import Claims, Signer
from understudy.waitingroom.values import TICKET

_OUR_OWN = frozenset({"", "same-origin", "none"})


@dataclass(frozen=True)
class Options:
    """How a gateway serves. Without a secret nobody may administer."""

    secret: str | None = None
    rate_per_address: float = 50.0
    proxies: int = 0
    origins: frozenset[str] = frozenset()
    access_log: bool = False
    most_streams: int = 10_000

    @property
    def burst_per_address(self) -> float:
        """How many requests an address may have saved up."""
        return max(1.0, 2 * self.rate_per_address)


class Desk:
    """The room, and what this gateway keeps of its own: nothing that another one must know."""

    def __init__(self, room: Room, signer: Signer, options: Options, metrics: Metrics) -> None:
        self.room = room
        self.signer = signer
        self.options = options
        self.metrics = metrics
        self.paces = Paces()
        self.pulse = Pulse(room)
        self.health = Health()
        self.keeper = Keeper(room, self.metrics, self.paces, self.health)
        self.hub = Hub(room, self.paces, self.pulse, self.metrics.streams.set, most=options.most_streams)
        self.buckets = Buckets(options.rate_per_address, options.burst_per_address)
        self.seat_maps = SeatMaps(room)
        self.polls = Together(room.places)
        self.heartbeats = Together(room.heartbeats)
        self._secret = options.secret.encode() if options.secret else b""

    def now_ms(self, event: str) -> int:
        """Return the time on the server that has an event."""
        return self.room.now_ms(event)

    def inside(self, request: Request) -> Claims:
        """Return who is inside, by the entry token.

        Raises:
            ProblemError: `UNAUTHORISED`.
        """
        claims = self.signer.verify(request.bearer())
        if claims is None or self.now_ms(claims.event_id) >= claims.expires_s * 1000:
            raise ProblemError("UNAUTHORISED")
        return claims

    def allow(self, address: str) -> None:
        """Count a request of an address.

        Raises:
            ProblemError: `TOO_MANY_REQUESTS`.
        """
        wait_s = self.buckets.wait_s(address)
        if wait_s:
            raise ProblemError("TOO_MANY_REQUESTS", headers=((b"retry-after", b"%d" % max(1, -(-wait_s // 1))),))

    def administers(self, request: Request) -> None:
        """Let only the operator through.

        Raises:
            ProblemError: `NO_SECRET`, `CROSS_SITE`, `UNAUTHORISED`; `TOO_MANY_REQUESTS` for who tries many secrets.
        """
        if not self._secret:
            raise ProblemError("NO_SECRET")
        origin, site = request.header(b"origin"), request.header(b"sec-fetch-site")
        if site not in _OUR_OWN or (origin and _netloc(origin) != request.header(b"host").lower()):
            raise ProblemError("CROSS_SITE")
        # compared in every case: how long it takes says nothing
        if not hmac.compare_digest(request.bearer().encode("latin-1", "replace"), self._secret):
            self.allow(request.address)
            raise ProblemError("UNAUTHORISED")


def ticket_of(request: Request, given: str | None) -> str:
    """Return the ticket of a request: that of its Authorization, else the given one.

    Raises:
        ProblemError: `UNAUTHORISED`: there is none. `NO_TICKET`: what there is can be none.
    """
    there = [one for one in (request.bearer() or None, given) if one is not None]
    if not there:
        raise ProblemError("UNAUTHORISED", why="there is no ticket")
    if not all(map(TICKET.fullmatch, there)):
        raise ProblemError("NO_TICKET")
    return there[0]


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
