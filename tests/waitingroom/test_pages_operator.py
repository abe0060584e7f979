"""The operator's page, and what holds for both pages, in a real browser, before a real gateway and a real server."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import expect

from understudy.lab import Lab
from waitingroom.browsing import (
    DESKTOP,
    EVIL,
    ROWS,
    Person,
    browser,
    entered,
    person,
    sideways,
    signed_in,
)
from waitingroom.conftest import SECRET, Served, serving

FIXTURES = browser, person  # that the tests ask for


def test_the_operator_runs_a_sale_from_the_page(served: Served, person: Callable[..., Person]) -> None:
    operator = person(DESKTOP)
    page = operator.opens("", "#secret-section:not([hidden])")
    page.fill("#secret", "a-wrong-secret-it-is")
    page.keyboard.press("Enter")
    expect(page.locator("#status-word")).to_have_text("Wrong secret")
    page.fill("#secret", SECRET)
    page.keyboard.press("Enter")
    page.click("#new")
    page.fill("#name", "from-the-page")
    page.fill("#seats", "A-5..A-1")
    page.click("#create button[type=submit]")
    expect(page.locator("#create-problem")).to_contain_text("is no range")
    page.fill("#seats", "A-1..A-5, VIP")
    page.fill("#rate", "0")
    page.click("#create button[type=submit]")
    sale = page.get_by_role("article", name="Sale from-the-page")
    expect(sale.locator(".badge")).to_have_text("not open yet")
    expect(sale.locator('[data-count="remaining"]')).to_have_text("6")
    sale.get_by_role("button", name="Open").click()
    expect(sale.locator(".badge")).to_have_text("open")
    for _ in range(3):
        served.join("from-the-page")
    expect(sale.locator('[data-count="waiting"]')).to_have_text("3")
    expect(sale.locator("svg.lines path.line").first).to_be_attached()
    sale.locator('[data-setting="rate_per_s"]').fill("50")
    sale.get_by_role("button", name="Set").click()
    expect(sale.locator('[data-count="admitted"]')).to_have_text("3")
    assert served.administer("GET", "/from-the-page")["settings"]["rate_per_s"] == 50
    sale.get_by_role("button", name="Halve the rate").click()
    expect(sale.locator("figcaption", has_text="rate 25")).to_be_visible()
    sale.get_by_text("Settings").click()
    sale.get_by_label("Time of a hold, s").fill("30")
    sale.get_by_role("button", name="Save").click()
    expect(sale.get_by_text("Saved; in effect now.")).to_be_visible()
    for name, state in (("Pause", "paused"), ("Resume", "open")):
        sale.get_by_role("button", name=name).click()
        expect(sale.locator(".badge")).to_have_text(state)
    for name, state in (("Close", "closed"), ("Delete", "")):
        sale.get_by_role("button", name=name).click()
        expect(page.locator("#question-title")).to_contain_text("from-the-page")
        page.click("#question-yes")
        expect(sale.locator(".badge")).to_have_text(state) if state else expect(sale).to_have_count(0)
    assert served.get("/api/v1/events/from-the-page", 404, headers=served.operator)["code"] == "NO_EVENT"
    assert SECRET not in page.content()
    page.click("#forget")
    page.wait_for_selector("#secret-section:not([hidden])")


def test_a_gateway_without_a_secret_says_what_to_type(
    person: Callable[..., Person], valkey_standalone_lab: Lab
) -> None:
    with serving(valkey_standalone_lab.target(), secret=None) as bare:
        page = person(at=bare).opens("")
        expect(page.locator("#status-word")).to_have_text("Administration is off")
        expect(page.locator("#status-type")).to_contain_text("WAITINGROOM_SECRET=")


def test_what_the_gateway_says_is_text_and_never_markup(served: Served, person: Callable[..., Person]) -> None:
    event = served.event(rate_per_s=100)
    somebody = person()
    seats = {"event_id": event, "total": 2, "remaining": 2, "seats": {EVIL: "AVAILABLE", f"{EVIL}-1": "AVAILABLE"}}
    somebody.context.route("**/api/v1/seats?*", lambda route: route.fulfill(json=seats))
    page = somebody.opens(f"wait/{event}")
    entered(page)
    page.click("#map .seat >> nth=0")
    expect(page.locator("#chosen-seats")).to_have_text(EVIL)
    somebody.context.route(
        "**/api/v1/seats/hold", lambda route: route.fulfill(status=409, json={"code": EVIL, "items": [EVIL]})
    )
    page.click("#hold")
    expect(page.locator("#problem")).to_contain_text(EVIL)
    strange = somebody.opens(f"wait/{EVIL.replace('/', '')}?lang={EVIL}&next={EVIL}".replace('"', "%22"))
    expect(strange.locator("h1")).to_have_text(EVIL.replace("/", ""))

    operator = person(DESKTOP)
    desk = signed_in(operator)
    real = served.administer("GET", f"/{event}")
    operator.context.route(
        "**/api/v1/events", lambda route: route.fulfill(json={"events": [real | {"event_id": EVIL, "state": EVIL}]})
    )
    expect(desk.locator(".sale h3")).to_have_count(1)
    expect(desk.locator(".sale h3")).to_contain_text(EVIL)
    for one in (page, strange, desk):
        assert one.locator("img").count() == 0
        assert one.title() != "owned"


def test_a_phone_shows_thousands_of_seats_without_scrolling_sideways(
    served: Served, person: Callable[..., Person]
) -> None:
    seats = [f"Block{block}-{row}-{n}" for block in range(1, 5) for row in "ABCDEFGHIJ" for n in range(1, 61)]
    name = "W" * 60 + "-long"
    served.administer("POST", "", 201, json={"event_id": name[:64], "seats": seats, "rate_per_s": 0})
    served.administer("POST", f"/{name[:64]}/open")
    somebody = person(color_scheme="dark", reduced_motion="reduce")
    page = somebody.waits(name[:64])
    assert sideways(page) == 0
    served.administer("PATCH", f"/{name[:64]}", json={"rate_per_s": 10})
    page.wait_for_selector("#turn:not([hidden])")
    assert sideways(page) == 0
    entered(page)
    assert page.locator("#map .seat").count() == 2400
    page.select_option("#jump", label="Block3-C")
    expect(page.locator('[data-seat="Block3-C-1"]')).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    per_line = int(
        page.evaluate("getComputedStyle(document.querySelector('.seats')).gridTemplateColumns.split(' ').length")
    )
    expect(page.locator("#chosen-seats")).to_have_text(f"Block3-C-{1 + per_line}")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    expect(page.locator(":focus")).to_have_attribute("data-seat", re.compile(r"^Block3-B-5\d$"))
    box = page.locator('[data-seat="Block3-C-1"]').bounding_box()
    assert box and box["width"] >= 24 and box["height"] >= 24  # WCAG 2.2, 2.5.8
    assert sideways(page) == 0
    desk = signed_in(person())
    desk.wait_for_selector(".sale")
    desk.click("#new")
    assert sideways(desk) == 0


def test_korean_for_who_reads_korean(served: Served, person: Callable[..., Person]) -> None:
    event = served.event(ROWS, rate_per_s=0)
    page = person(locale="ko-KR").waits(event)
    expect(page.locator("html")).to_have_attribute("lang", "ko")
    expect(page.locator("#line-title")).to_have_text("내 대기 순번")
    expect(page.locator("#notice-title")).to_have_text("지금은 입장이 멈춰 있습니다.")
    page.click("#language")
    expect(page.locator("#line-title")).to_have_text("Your place in line")
    asked = person().waits(event, "?lang=ko")
    expect(asked.locator("#leave")).to_have_text("대기 취소")
    assert all(
        page.evaluate(
            "Object.keys(TEXTS.en).map((key) => key in TEXTS.ko && typeof TEXTS.ko[key] === typeof TEXTS.en[key])"
        )
    )
    served.administer("PATCH", f"/{event}", json={"rate_per_s": 10})
    asked.wait_for_selector("#turn:not([hidden])")
    entered(asked)
    expect(asked.locator('[data-seat="A-1"]')).to_have_attribute("aria-label", "좌석 A-1, 선택 가능")


@pytest.mark.parametrize("path", ["", "wait/any"])
def test_a_page_runs_only_what_is_its_own(served: Served, path: str) -> None:
    plain = httpx.get(served.url + path, headers={"Accept-Encoding": "identity"})
    packed = httpx.get(served.url + path, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.text == plain.text and len(gzip.compress(plain.content)) < 30_000
    policy = plain.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert plain.headers["referrer-policy"] == "no-referrer"
    assert plain.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"\son\w+=|\sstyle=|innerHTML|javascript:|\ssrc=", plain.text)
