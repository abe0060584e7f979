"""Tell people how a run ended: mail, Slack, Discord, a webhook, or whatever else Apprise reaches.

A place that is down, hangs or refuses never fails a backup, nor holds it up for longer than the deadline: it becomes a
warning. URLs of such places are secrets (their tokens stand in them), so a warning names the setting and the host only.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http.client import HTTPException, HTTPMessage
from typing import IO, Any, Literal
from urllib.parse import quote, urlencode, urlsplit

from understudy import __version__
from understudy.errors import UnderstudyError
from understudy.operations.by_apprise import send_all
from understudy.settings import Settings

DEADLINE_S = 10.0  # for all places together
MOST_TOLD = 10
MAIL_SERVER = "localhost:25"
_LEEWAY_S = 0.5  # to collect what was said up to the deadline
_CHAT = re.compile(
    r"https://hooks\.slack\.com/services/|https://(\w+\.)?discord(app)?\.com/api/webhooks/", re.IGNORECASE
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]+")

Kind = Literal["failure", "recovery", "success", "warning"]


@dataclass(frozen=True)
class Event:
    """What happened: a title of one line, and the lines below it."""

    kind: Kind
    tier: str
    title: str
    lines: tuple[str, ...] = ()
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def heading(self) -> str:
        """Return the title as one line of characters that every place can show."""
        return " ".join(_plain(self.title).split())

    @property
    def body(self) -> str:
        """Return the lines as one text; it ends with the machine that speaks."""
        return "\n".join([*map(_plain, self.lines), f"Host: {socket.gethostname()}"])


def _plain(text: str) -> str:
    """Return a text without control characters, nor what UTF-8 cannot say."""
    return _CONTROLS.sub(" ", text.encode(errors="replace").decode())


@dataclass(frozen=True)
class Place:
    """Somebody to tell: how a warning names it, its URL, who speaks to it, and what a warning adds."""

    name: str
    url: str = field(repr=False)
    by_apprise: bool = True
    hint: str = ""


def places(settings: Settings) -> list[Place]:
    """Return everybody who is to be told, without asking anybody anything."""
    found = [
        Place(f"entry {number} of BACKUP_NOTIFY ({_scheme(url)})", url)
        for number, url in enumerate((each.get_secret_value().strip() for each in settings.backup_notify), 1)
    ]
    if to := settings.backup_notify_email:
        found.append(Place(
            f"BACKUP_NOTIFY_EMAIL ({to})", _mail(to),
            hint=f"; is there a mail server at {MAIL_SERVER}? Another one: mailtos://… in BACKUP_NOTIFY",
        ))  # fmt: skip
    if settings.backup_notify_webhook:
        url = settings.backup_notify_webhook.get_secret_value().strip()
        chat = bool(_CHAT.match(url))
        found.append(Place(f"BACKUP_NOTIFY_WEBHOOK ({_host(url)})", _as_text(url) if chat else url, chat))
    return found


def lines_of(error: UnderstudyError) -> list[str]:
    """Return what people are told of an error: its text, the first things that it lists, and what to do."""
    return [str(error), *error.items[:MOST_TOLD], *filter(None, [error.hint])]


def wanted(settings: Settings, kind: Kind) -> bool:
    """Tell whether people want to hear of such an event."""
    return kind != "success" or settings.backup_notify_success


def notify(settings: Settings, event: Event, deadline_s: float = DEADLINE_S) -> list[str]:
    """Tell everybody at the same time, and return a warning for each who could not be told in time."""
    return tell(places(settings), event, deadline_s) if wanted(settings, event.kind) else []


def tell(everybody: Sequence[Place], event: Event, deadline_s: float = DEADLINE_S) -> list[str]:
    """Tell these places, as `notify` does."""
    said: dict[Place, str | None] = {}
    through = [place for place in everybody if place.by_apprise]

    def apprise() -> None:
        good = event.kind not in {"failure", "warning"}
        whys = send_all([place.url for place in through], event.heading, event.body, good=good, deadline_s=deadline_s)
        said.update({through[number]: why for number, why in whys.items()})

    def webhook(place: Place) -> None:
        said[place] = _post(place.url, event, deadline_s)

    work: list[Callable[[], None]] = [apprise] if through else []
    work += [partial(webhook, place) for place in everybody if not place.by_apprise]
    threads = [threading.Thread(target=act, daemon=True) for act in work]
    end = time.monotonic() + deadline_s + _LEEWAY_S
    for thread in threads:  # daemons: who hangs does not keep us when we are done
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    late = f"no answer within {deadline_s:g} s"
    return [
        f"Could not notify {place.name}: {why}{place.hint}." for place in everybody if (why := said.get(place, late))
    ]


def _mail(addresses: str) -> str:
    """Return the Apprise URL of the mail server on this machine: no TLS and no password, as on any loopback."""
    host, _, port = MAIL_SERVER.partition(":")
    name = socket.getfqdn()
    sender = f"understudy@{name if '.' in name else f'{name}.localdomain'}"
    query = {"to": addresses.replace(" ", ""), "from": sender, "smtp": host, "mode": "insecure", "format": "text"}
    return f"mailto://{quote(name)}:{port}?{urlencode(query)}"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """What we tell is for one place only."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Follow nothing: the redirect becomes an error."""


def _post(url: str, event: Event, timeout_s: float) -> str | None:
    """Send JSON to a webhook; return why that failed, or None."""
    try:
        if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            return "it is no http:// or https:// URL"
        request = urllib.request.Request(  # noqa: S310 - checked above
            url, json.dumps(_payload(event)).encode(),
            {"Content-Type": "application/json", "User-Agent": f"understudy/{__version__}"}, method="POST",
        )  # fmt: skip
        urllib.request.build_opener(_NoRedirects).open(request, timeout=timeout_s).close()
    except urllib.error.HTTPError as error:
        error.close()
        elsewhere = " (a redirect, which is not followed)" if error.code // 100 == 3 else ""
        return f"it answered HTTP {error.code}{elsewhere}"
    except (OSError, HTTPException, ValueError) as error:  # their texts may hold the URL
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            return f"no answer within {timeout_s:g} s"
        return f"it cannot be reached ({getattr(reason, 'strerror', None) or type(reason).__name__})"
    return None


def _payload(event: Event) -> dict[str, Any]:
    """Return what any webhook gets; `text` is what chat servers of Slack's kind show."""
    return {
        "title": event.heading,
        "body": event.body,
        "text": f"{event.heading}\n{event.body}",
        "kind": event.kind,
        "tier": event.tier,
        "host": socket.gethostname(),
        "at": event.at.isoformat(timespec="seconds"),
    }


def _as_text(url: str) -> str:
    """Return a chat's URL such that it has texts shown as they are, without a picture of Apprise's."""
    return f"{url}{'&' if '?' in url else '?'}format=text&image=no&footer=no"


def _scheme(url: str) -> str:
    scheme, found, _ = url.partition("://")
    return scheme if found and scheme.isalnum() else "not a URL"


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "not a URL"
    except ValueError:
        return "not a URL"
