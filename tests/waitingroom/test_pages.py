"""The two pages in a real browser, before a real gateway and a real server."""

from __future__ import annotations

import gzip
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, Route, expect, sync_playwright

from understudy.lab import Lab
from waitingroom.conftest import SECRET, Served, serving

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


def test_opening_joins_once_however_often_it_is_opened(served: Served, person: Callable[..., Person]) -> None:
    event = served.event(rate_per_s=0)
    somebody = person()
    tabs = [somebody.opens(f"wait/{event}") for _ in range(3)]  # none waits for the others
    for tab in tabs:
        position(tab, "1")
    tabs[0].reload()
    position(tabs[0], "1")
    assert "–" not in tabs[0].inner_text("#before")
    assert counts(served, event)["joined"] == 1


def test_an_answer_that_is_lost_costs_no_second_ticket(served: Served, person: Callable[..., Person]) -> None:
    event = served.event(rate_per_s=0)
    somebody = person()
    lost: list[str] = []

    def lose_the_first(route: Route) -> None:
        lost.append(route.request.headers["idempotency-key"])
        if len(lost) == 1:
            route.fetch()  # it was done, and nobody hears of it
            route.abort()
        else:
            route.continue_()

    somebody.context.route("**/api/v1/queue/join", lose_the_first)
    page = somebody.waits(event)
    position(page, "1")
    assert len(lost) == 2 and len(set(lost)) == 1
    assert counts(served, event)["joined"] == 1


def test_everybody_moves_up_when_somebody_before_leaves(served: Served, person: Callable[..., Person]) -> None:
    event = served.event(rate_per_s=0)
    before = [served.join(event)["ticket"] for _ in range(3)]
    somebody = person()
    page = somebody.waits(event)
    second_tab = somebody.waits(event)
    position(page, "4")
    served.join(event)
    expect(page.locator("#behind")).to_have_text("1")
    for ticket in before[:2]:
        served.post("/api/v1/queue/leave", {"ticket": ticket})
    for tab in (page, second_tab):
        position(tab, "2")
        expect(tab.locator("#way")).to_have_attribute("aria-valuenow", "50")
    expect(page).to_have_title(f"2 · {event}")
    page.close()
    served.post("/api/v1/queue/leave", {"ticket": before[2]})
    position(second_tab, "1")


def test_what_happens_to_the_sale_is_said(served: Served, person: Callable[..., Person]) -> None:
    event = served.event(state="created", rate_per_s=0.01, burst=1)
    somebody = person()
    page = somebody.opens(f"wait/{event}")
    expect(page.locator("#message-title")).to_have_text("Not open yet")
    served.administer("POST", f"/{event}/open")
    served.join(event)  # the one call of the burst
    page.wait_for_selector("#line:not([hidden])")
    position(page, "1")
    expect(page.locator("#estimate")).to_have_text("about 2 minutes")
    for action, said in (("pause", "paused"), ("close", "closed")):
        served.administer("POST", f"/{event}/{action}")
        expect(page.locator("#notice-title")).to_contain_text(said)
        expect(page.locator("#estimate")).to_be_hidden()
    served.administer("POST", f"/{event}/open")
    expect(page.locator("#notice")).to_be_hidden()
    position(page, "1")


def test_from_the_line_to_a_seat(served: Served, person: Callable[..., Person]) -> None:
    event = served.event(ROWS, rate_per_s=0)
    somebody = person()
    page = somebody.waits(event)
    served.administer("PATCH", f"/{event}", json={"rate_per_s": 10})
    page.wait_for_selector("#turn:not([hidden])")
    expect(page).to_have_title(re.compile(r"^▶ (1:00|0:5\d) Enter now"))
    expect(page.locator("#alarm")).to_contain_text("It is your turn")
    page.focus("#enter")
    page.keyboard.press("Enter")
    page.wait_for_selector("#map .seat")
    assert page.locator("#map .seat").count() == len(ROWS)
    expect(page.locator('#map .seat[tabindex="0"]')).to_have_count(1)

    page.focus("#map .seat >> nth=0")
    for key in ("ArrowRight", "ArrowRight", "Space", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    expect(page.locator("#chosen-seats")).to_have_text("A-3, A-4")
    page.click("#hold")
    state_of(page, "A-3", "mine")
    expect(page.locator('[data-seat="A-3"]')).to_have_attribute("aria-label", "Seat A-3, held for you")
    expect(page.locator("#hold-left")).to_have_text(re.compile(r"^(2:00|1:5\d)$"))
    page.reload()  # nothing is lost
    expect(page.locator("#held-seats")).to_have_text("A-3, A-4")
    page.click("#confirm")
    expect(page.locator("#bought-seats li")).to_have_text(["A-3", "A-4"])
    state_of(page, "A-3", "bought")
    assert counts(served, event) | {"sold": 2, "held": 0, "entered": 1} == counts(served, event)


def test_others_seats_are_shown_and_refused_in_words(served: Served, person: Callable[..., Person]) -> None:
    event = served.event(ROWS, rate_per_s=100, seats_per_ticket=2)
    somebody = person(DESKTOP)
    page = somebody.opens(f"wait/{event}")
    entered(page)
    other = served.inside(event)
    choose(page, "B-1")
    page.context.route("**/api/v1/seats?*", lambda route: route.abort())  # so that it does not learn of it
    served.post("/api/v1/seats/hold", {"seats": ["B-1", "B-2"]}, headers=other)
    page.click("#hold")
    expect(page.locator("#problem")).to_contain_text("Somebody was faster: B-1")
    expect(page.locator("#notice-title")).to_have_text("Connection lost.")
    page.context.unroute("**/api/v1/seats?*")
    served.post("/api/v1/seats/confirm", {"seats": ["B-2"]}, headers=other)
    state_of(page, "B-1", "taken")
    state_of(page, "B-2", "sold")
    page.locator('[data-seat="B-1"]').dispatch_event("click")  # does nothing
    expect(page.locator("#chosen-line")).to_be_hidden()
    page.click("#more")
    page.click("#pick button[type=submit]")
    expect(page.locator('#map [data-state="chosen"]')).to_have_count(3)
    page.click("#hold")
    expect(page.locator("#problem")).to_contain_text("more seats than one person can have")
    page.click("#clear")
    choose(page, "A-1")
    page.click("#hold")
    state_of(page, "A-1", "mine")
    page.click("#release")
    state_of(page, "A-1", "available")
    assert counts(served, event)["held"] == 1


def test_a_hold_that_runs_out_is_said_and_its_seat_is_free_again(
    served: Served, person: Callable[..., Person]
) -> None:  # fmt: skip
    event = served.event(ROWS, rate_per_s=100, hold_ttl_s=1)
    somebody = person()
    page = somebody.opens(f"wait/{event}")
    entered(page)
    choose(page, "A-1")
    page.click("#hold")
    expect(page.locator("#problem")).to_contain_text("The time of your hold is over")
    state_of(page, "A-1", "available")
    expect(page.locator("#held-line")).to_be_hidden()
    served.post("/api/v1/seats/hold", {"seats": ["A-1"]}, headers=served.inside(event))


def test_a_server_that_is_away_costs_nobody_their_place(
    served: Served, person: Callable[..., Person], valkey_standalone_lab: Lab
) -> None:
    event = served.event(rate_per_s=0)
    served.join(event)
    somebody, operator = person(), person(DESKTOP)
    page = somebody.waits(event)
    desk = signed_in(operator)
    with paused(valkey_standalone_lab):
        expect(page.locator("#notice-title")).to_have_text("Connection lost.")
        expect(page.locator("#notice-text")).to_contain_text("Your place is kept")
        expect(desk.locator("#status-word")).to_contain_text("does not answer")
        position(page, "2")
    expect(page.locator("#notice-title")).not_to_have_text("Connection lost.")
    expect(desk.locator("#status")).to_be_hidden()
    position(page, "2")
    somebody.context.set_offline(True)
    expect(page.locator("#notice-title")).to_have_text("Connection lost.")
    somebody.context.set_offline(False)
    expect(page.locator("#notice-title")).not_to_have_text("Connection lost.")
    assert counts(served, event)["joined"] == 2


def test_who_misses_the_turn_or_leaves_joins_again_only_by_asking(
    served: Served, person: Callable[..., Person]
) -> None:  # fmt: skip
    event = served.event(rate_per_s=100, entry_ttl_s=0.5)
    somebody = person()
    page = somebody.opens(f"wait/{event}")
    expect(page.locator("#message-title")).to_have_text("Your turn is over")
    page.reload()
    expect(page.locator("#message-title")).to_have_text("Your turn is over")
    served.administer("PATCH", f"/{event}", json={"rate_per_s": 0})
    page.click("#again")
    position(page, "1")
    page.click("#leave")
    expect(page.locator("#question-text")).to_contain_text("number 1")
    page.click("#question-no")
    position(page, "1")
    page.click("#leave")
    page.click("#question-yes")
    expect(page.locator("#message-title")).to_have_text("You left the line")
    page.reload()
    expect(page.locator("#message-title")).to_have_text("You left the line")
    found = counts(served, event)
    assert (found["joined"], found["left"], found["waiting"]) == (2, 1, 0)


def test_who_ticked_it_goes_in_and_on_to_the_shop(served: Served, person: Callable[..., Person]) -> None:
    event = served.event(rate_per_s=0)
    somebody = person()
    page = somebody.waits(event, "?next=/healthz")
    page.check("#auto")
    served.administer("PATCH", f"/{event}", json={"rate_per_s": 10})
    page.wait_for_url(re.compile(r"/healthz#token=eyJ[\w.-]+$"))
    page.goto(f"{served.url}wait/{event}?next=/healthz")  # back: nobody is sent away again
    expect(page.locator("#onward-link")).to_have_attribute("href", re.compile(r"/healthz#token=eyJ"))


def test_a_token_is_handed_to_no_other_site(served: Served, person: Callable[..., Person]) -> None:
    event = served.event(rate_per_s=100)
    page = person().opens(f"wait/{event}", "#turn:not([hidden])")
    entered(page)
    for place in ("https://elsewhere.example/", "javascript:alert(1)", "//elsewhere.example", "data:text/html,x"):
        page.goto(f"{served.url}wait/{event}?next={place}")
        expect(page.locator("#problem")).to_contain_text("not one of this shop's")
        expect(page.locator("#shop")).to_be_visible()
        assert page.locator("#onward-link").get_attribute("href") is None


def test_a_site_that_the_operator_allowed_is_handed_the_token(
    person: Callable[..., Person], valkey_standalone_lab: Lab, served: Served
) -> None:
    with serving(valkey_standalone_lab.target(), origins=frozenset({"https://shop.example"})) as other:
        event = served.event(rate_per_s=100)
        somebody = person(at=other)
        somebody.context.route("https://shop.example/**", lambda route: route.fulfill(body="the shop"))
        page = somebody.opens(f"wait/{event}?next=https://shop.example/seats?of=ours", "#turn:not([hidden])")
        page.click("#enter")
        page.wait_for_url(re.compile(r"^https://shop.example/seats\?of=ours#token=eyJ"))
        assert somebody.wrong == ["https://shop.example/seats?of=ours"]  # neither token nor referrer went there
        somebody.wrong.clear()


def signed_in(operator: Person) -> Page:
    page = operator.opens("", "#secret-section:not([hidden])")
    page.fill("#secret", SECRET)
    page.keyboard.press("Enter")
    page.wait_for_selector("#desk:not([hidden])")
    return page


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
