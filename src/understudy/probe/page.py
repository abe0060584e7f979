"""The dashboard: one page that holds no data, and loads nothing from anywhere else."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import HTMLResponse

from understudy.pages.page import render
from understudy.probe.connection import Connection

_TEMPLATE = Path(__file__).parent / "templates" / "dashboard.html"
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src {styles}; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page_route(connection: Connection) -> APIRouter:
    """Return the route of the page."""
    router = APIRouter()

    @router.get("/", include_in_schema=False)
    async def dashboard() -> HTMLResponse:
        nonce = secrets.token_urlsafe(18)
        page = render(_TEMPLATE, nonce=nonce, kind=connection.kind.value)
        return HTMLResponse(page, headers={"Content-Security-Policy": policy(page, nonce)})

    return router


def policy(page: str, nonce: str) -> str:
    """Return the policy under which only this page's own script and styles work."""
    digests = (hashlib.sha256(style.encode()).digest() for style in _STYLE.findall(page))
    styles = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return _POLICY.format(nonce=nonce, styles=styles)
