"""The two pages: that of a person in the line, and the operator's. Each is one HTML that loads nothing from elsewhere.

Neither holds any data: which event it is the script reads in the address, and all else it asks of the gateway. So a
page is the same bytes for everybody, made and compressed once, and opening it costs nothing when everybody does. For
that its own script is let run by a digest in the policy: a nonce would be new for each answer, and say the same.
Source: CSP level 3, 2.3.1 (hash sources).
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from understudy.http.answer import Answer, RawHeaders, Request
from understudy.pages.page import render
from understudy.waitingroom.desk import Desk
from understudy.waitingroom.route import Route

_TEMPLATES = Path(__file__).parent / "templates"
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_HTML = b"text/html; charset=utf-8"
_POLICY = (
    "default-src 'none'; script-src {scripts}; style-src {styles}; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_ALWAYS: RawHeaders = (
    (b"cache-control", b"no-cache"),
    (b"vary", b"accept-encoding"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)


@dataclass(frozen=True)
class Page:
    """A page as it is sent: as it is, and compressed."""

    html: bytes
    compressed: bytes
    policy: str

    @classmethod
    def of(cls, html: str) -> Page:
        """Return the page with a policy under which only its own script and styles work."""
        policy = _POLICY.format(scripts=_digests(_SCRIPT, html), styles=_digests(_STYLE, html))
        return cls(html.encode(), gzip.compress(html.encode(), mtime=0), policy)

    def answer(self, request: Request) -> Answer:
        """Return the answer, compressed for who takes that."""
        headers = (*_ALWAYS, (b"content-security-policy", self.policy.encode()))
        if "gzip" in request.header(b"accept-encoding"):
            return Answer(200, self.compressed, _HTML, (*headers, (b"content-encoding", b"gzip")))
        return Answer(200, self.html, _HTML, headers)


@cache
def waiting_page(next_origins: tuple[str, ...]) -> Page:
    """Return the page of a person in the line; `?next=` may lead to this site, and to pages of `next_origins`."""
    return Page.of(render(_TEMPLATES / "wait.html", next_origins=next_origins))


@cache
def operators_page() -> Page:
    """Return the operator's page."""
    return Page.of(render(_TEMPLATES / "operator.html"))


async def wait(desk: Desk, request: Request) -> Answer:
    """Show the line to a person. Origins that may call the gateway are those that may be handed an entry token."""
    return waiting_page(tuple(sorted(desk.options.origins))).answer(request)


async def operate(_: Desk, request: Request) -> Answer:
    """Show the sales to the operator."""
    return operators_page().answer(request)


ROUTES = (
    # not limited: who shares an address with many must see the page, which then waits as long as it is told to
    Route(
        "GET", "/wait/{event}", wait, "The page of a person in the line", {200: "text/html"},
        limited=False, documented=False,
    ),
    Route("GET", "/", operate, "The operator's page", {200: "text/html"}, limited=False, documented=False),
)  # fmt: skip


def _digests(tag: re.Pattern[str], html: str) -> str:
    digests = (hashlib.sha256(text.encode()).digest() for text in tag.findall(html))
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
