"""Tell people how a run ended: mail, Slack, Discord, a webhook, or whatever else Apprise reaches.

A place that is down, hangs or refuses never fails a backup, nor holds it up for longer than the deadline: it becomes a
warning. URLs of such places are secrets (their tokens stand in them), so a warning names the setting and the host only.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPException, HTTPMessage
from typing import IO, Any, Literal
from urllib.parse import quote, urlencode, urlsplit

from understudy import __version__
from understudy.settings import Settings

DEADLINE_S = 10.0  # for all places together
MAIL_SERVER = "localhost:25"
_REQUEST_S = 8.0  # one request; shorter than the deadline, so that there is time to say why
_EXTRA = "install it: pip install 'understudy[operations]'"
_BY_APPRISE = re.compile(
    r"https://hooks\.slack\.com/services/|https://(\w+\.)?discord(app)?\.com/api/webhooks/", re.IGNORECASE
)
_STATUS = re.compile(r"error=(\d{3})")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]+")

Kind = Literal["failure", "recovery", "success"]


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
    """Somebody to tell: how a warning names it, and what tells it (it returns why that failed, or None)."""

    name: str
    tell: Callable[[Event], str | None]


def places(settings: Settings) -> list[Place]:
    """Return everybody who is to be told, without asking anybody anything."""
    found = [
        Place(f"entry {number} of BACKUP_NOTIFY ({_scheme(url.get_secret_value())})", _apprise(url.get_secret_value()))
        for number, url in enumerate(settings.backup_notify, 1)
    ]
    if settings.backup_notify_email:
        found.append(
            Place(f"BACKUP_NOTIFY_EMAIL ({settings.backup_notify_email})", _mail(settings.backup_notify_email))
        )
    if settings.backup_notify_webhook:
        url = settings.backup_notify_webhook.get_secret_value().strip()
        tell = _apprise(_formatted(url)) if _BY_APPRISE.match(url) else _webhook(url)
        found.append(Place(f"BACKUP_NOTIFY_WEBHOOK ({_host(url)})", tell))
    return found


def wanted(settings: Settings, kind: Kind) -> bool:
    """Tell whether people want to hear of such an event."""
    return kind != "success" or settings.backup_notify_success


def notify(settings: Settings, event: Event, deadline_s: float = DEADLINE_S) -> list[str]:
    """Tell everybody at the same time, and return a warning for each who could not be told in time."""
    return tell(places(settings), event, deadline_s) if wanted(settings, event.kind) else []


def tell(everybody: list[Place], event: Event, deadline_s: float = DEADLINE_S) -> list[str]:
    """Tell these places, as `notify` does."""
    end = time.monotonic() + deadline_s
    said: dict[int, str | None] = {}

    def work(number: int, place: Place) -> None:
        try:
            said[number] = place.tell(event)
        except Exception as error:  # noqa: BLE001 - nothing of it may fail a backup, nor print what it holds
            said[number] = f"it failed ({type(error).__name__})"

    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in enumerate(everybody)]
    for thread in threads:  # daemons: who hangs does not keep us when we are done
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    late = f"no answer within {deadline_s:g} s"
    return [
        f"Could not notify {place.name}: {why}."
        for number, place in enumerate(everybody)
        if (why := said.get(number, late)) is not None
    ]


def _apprise(url: str) -> Callable[[Event], str | None]:
    def tell(event: Event) -> str | None:
        try:
            import apprise  # noqa: PLC0415 - slow to import, and an extra
        except ImportError:
            return f"apprise is missing; {_EXTRA}"
        heard = _Heard()
        logger = logging.getLogger("apprise")
        logger.propagate = False  # its lines name URLs
        logger.addHandler(heard)
        try:
            asset = apprise.AppriseAsset(app_id="Understudy", async_mode=False, http_redirects=False)
            teller = apprise.Apprise(asset=asset)
            if not teller.add(url):
                return "Apprise cannot read this URL; https://github.com/caronc/apprise/wiki shows how it is written"
            kind = apprise.NotifyType.FAILURE if event.kind == "failure" else apprise.NotifyType.SUCCESS
            if teller.notify(event.body, event.heading, kind, apprise.NotifyFormat.TEXT):
                return None
        finally:
            logger.removeHandler(heard)
        return heard.why

    return tell


class _Heard(logging.Handler):
    """Hears in its own thread what Apprise says about a failure, and keeps of it only what is no secret."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.why = "it did not take the message"
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Note why."""
        if record.thread != self._thread:
            return
        text = record.getMessage()
        if status := _STATUS.search(text):
            self.why = f"it answered HTTP {status[1]}"
        elif "onnection" in text:
            self.why = "it cannot be reached"


def _mail(addresses: str) -> Callable[[Event], str | None]:
    host, _, port = MAIL_SERVER.partition(":")
    name = socket.getfqdn()
    sender = f"understudy@{name if '.' in name else f'{name}.localdomain'}"
    query = {"to": addresses.replace(" ", ""), "from": sender, "smtp": host, "mode": "insecure", "format": "text"}
    send = _apprise(f"mailto://{quote(name)}:{port}?{urlencode(query)}")

    def tell(event: Event) -> str | None:
        why = send(event)
        return why and f"{why}; is there a mail server at {MAIL_SERVER}? Another one: mailtos://… in BACKUP_NOTIFY"

    return tell


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """What we tell is for one place only."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Follow nothing: the redirect becomes an error."""


def _webhook(url: str) -> Callable[[Event], str | None]:
    def tell(event: Event) -> str | None:
        if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            return "it is no http:// or https:// URL"
        request = urllib.request.Request(  # noqa: S310 - checked above
            url, json.dumps(_payload(event)).encode(),
            {"Content-Type": "application/json", "User-Agent": f"understudy/{__version__}"}, method="POST",
        )  # fmt: skip
        try:
            urllib.request.build_opener(_NoRedirects).open(request, timeout=_REQUEST_S).close()
        except urllib.error.HTTPError as error:
            error.close()
            elsewhere = " (a redirect, which is not followed)" if error.code // 100 == 3 else ""
            return f"it answered HTTP {error.code}{elsewhere}"
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            return f"it cannot be reached ({getattr(reason, 'strerror', None) or type(reason).__name__})"
        return None

    return tell


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


def _formatted(url: str) -> str:
    """Have texts shown as they are, without a picture of Apprise's."""
    return f"{url}{'&' if '?' in url else '?'}format=text&image=no&footer=no"


def _scheme(url: str) -> str:
    scheme, found, _ = url.partition("://")
    return scheme if found and scheme.isalnum() else "not a URL"


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "not a URL"
    except ValueError:
        return "not a URL"
