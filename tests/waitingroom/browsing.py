"""People with browsers before a real gateway, for the tests of its pages."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

from understudy.lab import Lab
from waitingroom.conftest import SECRET, Served

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1200, "height": 900}
SOON_MS = 20_000
EVIL = '<img src=x onerror="document.title=`owned`">'
ROWS = [f"{row}-{number}" for row in "AB" for number in range(1, 6)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        give_up("no Chromium is installed (chromium, chromium-browser, google-chrome)")
    expect.set_options(timeout=SOON_MS)
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=flags)
        yield running
        running.close()
    expect.set_options(timeout=5000)


class Person:
    """Somebody with a browser of their own, and all that was asked and went wrong in it."""

    def __init__(self, context: BrowserContext, served: Served) -> None:
        self.context = context
        self.served = served
        self.wrong: list[str] = []
        self.urls: list[str] = []
        context.set_default_timeout(SOON_MS)
        context.on("request", self._note)
        context.on("weberror", lambda error: self.wrong.append(str(error.error)))
        context.on("console", lambda said: self._said(said.type, said.text))

    def _note(self, asked: Request) -> None:
        self.urls.append(asked.url)
        if not asked.url.startswith((self.served.url, "data:")):
            self.wrong.append(asked.url)

    def _said(self, kind: str, text: str) -> None:
        # what the gateway refuses, or nobody answers, the browser logs by itself
        if kind in {"error", "warning"} and not text.startswith("Failed to load resource"):
            self.wrong.append(text)

    def opens(self, path: str, until: str = "") -> Page:
        page = self.context.new_page()
        page.goto(self.served.url + path, wait_until="commit")
        if until:
            page.wait_for_selector(until)
        return page

    def waits(self, event: str, query: str = "") -> Page:
        return self.opens(f"wait/{event}{query}", "#line:not([hidden])")


@pytest.fixture
def person(browser: Browser, served: Served) -> Iterator[Callable[..., Person]]:
    """Make people; at the end nothing went wrong in their browsers, and no secret stood in an address."""
    people: list[Person] = []

    def make(viewport: Any = PHONE, at: Served | None = None, **settings: Any) -> Person:
        context = browser.new_context(viewport=viewport, **{"locale": "en-US", **settings})
        people.append(Person(context, at or served))
        return people[-1]

    yield make
    for one in people:
        kept = one.context.storage_state()["origins"]
        one.context.close()
        assert not one.wrong
        secrets = [SECRET, *re.findall(r'"ticket\\*":\\*"([^"\\]+)', str(kept))]
        assert not [url for url in one.urls for secret in secrets if secret in unquote(url)]


def counts(served: Served, event: str) -> dict[str, int]:
    found: dict[str, int] = served.administer("GET", f"/{event}")["counts"]
    return found


def position(page: Page, place: str) -> None:
    expect(page.locator("#position")).to_have_text(place)


def sideways(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@contextmanager
def paused(lab: Lab) -> Iterator[None]:
    node = lab.nodes[0]
    lab.pause(node)
    try:
        yield
    finally:
        lab.resume(node)


def entered(page: Page) -> None:
    page.click("#enter")
    page.wait_for_selector("#map .seat")


def choose(page: Page, *seats: str) -> None:
    for seat in seats:
        page.click(f'[data-seat="{seat}"]')


def state_of(page: Page, seat: str, state: str) -> None:
    expect(page.locator(f'[data-seat="{seat}"]')).to_have_attribute("data-state", state)


def signed_in(operator: Person) -> Page:
    page = operator.opens("", "#secret-section:not([hidden])")
    page.fill("#secret", SECRET)
    page.keyboard.press("Enter")
    page.wait_for_selector("#desk:not([hidden])")
    return page
