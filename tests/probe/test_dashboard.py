"""The dashboard in a real browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from probe.conftest import primary_of, serving
from understudy.lab import Lab
from understudy.valkey.target import Address, Mode, Target

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
SOON_MS = 20_000
TOKEN = "a-token-for-the-tests"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium is installed (chromium, chromium-browser, google-chrome)")
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=flags)
        yield running
        running.close()


def opened(browser: Browser, url: str, viewport: dict[str, int], **context: Any) -> tuple[Page, list[str]]:
    """Open the page; the list holds what went wrong in it, and what it asked of others."""
    page = browser.new_context(viewport=viewport, **context).new_page()  # type: ignore[arg-type]
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("request", lambda asked: None if asked.url.startswith((url, "data:")) else wrong.append(asked.url))
    page.goto(url)
    return page, wrong


def width(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth"))


def test_the_stack_is_shown_and_the_button_leads_to_a_verdict(browser: Browser, valkey_cluster: Lab) -> None:
    with serving(valkey_cluster.target()) as probe:
        page, wrong = opened(browser, probe.url, DESKTOP)
        page.wait_for_selector("#status.passed", timeout=SOON_MS)
        page.wait_for_selector(".shard:nth-child(3)", timeout=SOON_MS)
        shown = page.inner_text("#shards")
        assert all(str(node.address) in shown for node in valkey_cluster.nodes)
        assert shown.count("primary ✓") == shown.count("replica ✓") == 3
        assert page.locator("#slots rect").count() == 3
        assert "medium risk" in page.inner_text("#mode")
        assert page.locator("#latency-chart path.long").count() == 1

        page.fill("#duration", "2")
        page.fill("#interval", "0.1")
        page.focus("#interval")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")  # the button, without a mouse
        page.wait_for_selector("#tries-long li:nth-child(5)", timeout=SOON_MS)
        valkey_cluster.kill(primary_of(valkey_cluster))
        page.wait_for_selector("#verdict.failed", timeout=SOON_MS)  # the test ends before the failover does
        assert "servers are not back" in page.inner_text("#verdict-text")
        page.wait_for_selector("#events li:has-text('is now a primary')", timeout=SOON_MS)
        assert not wrong
        page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it_without_scrolling_sideways(browser: Browser, valkey_cluster: Lab, scheme: str) -> None:
    with serving(valkey_cluster.target()) as probe:
        page, wrong = opened(browser, probe.url, PHONE, color_scheme=scheme)
        page.wait_for_selector(".shard:nth-child(3)", timeout=SOON_MS)
        page.fill("#duration", "1")
        page.click("#recovery-start")
        page.wait_for_selector("#verdict.unknown", timeout=SOON_MS)
        assert width(page) == PHONE["width"]
        assert not wrong
        page.context.close()


def test_the_page_asks_for_the_token_and_keeps_it_in_its_tab(browser: Browser, valkey_standalone: Lab) -> None:
    with serving(valkey_standalone.target(), token=TOKEN) as probe:
        page, _ = opened(browser, probe.url, DESKTOP)
        page.wait_for_selector("#token-section:not([hidden])", timeout=SOON_MS)
        page.fill("#token", "a wrong one")
        page.keyboard.press("Enter")
        page.wait_for_selector("#token-note:has-text('does not know')", timeout=SOON_MS)
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector("#status.passed", timeout=SOON_MS)
        page.reload()
        page.wait_for_selector("#status.passed", timeout=SOON_MS)
        assert TOKEN not in page.content() + page.url
        page.context.close()


def test_a_dead_server_is_said(browser: Browser) -> None:
    with serving(Target((Address("127.0.0.1", 1),), Mode.STANDALONE)) as probe:
        page, wrong = opened(browser, probe.url, PHONE)
        page.wait_for_selector("#status.failed", timeout=SOON_MS)
        assert "refused" in page.inner_text("#status-text")
        assert width(page) == PHONE["width"]
        assert not wrong
        page.context.close()
