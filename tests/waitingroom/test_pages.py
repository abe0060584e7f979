"""The page of a person in the line, in a real browser, before a real gateway and a real server."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Route, expect

from understudy.lab import Lab
from waitingroom.browsing import (
    DESKTOP,
    ROWS,
    Person,
    browser,
    choose,
    counts,
    entered,
    paused,
    person,
    position,
    signed_in,
    state_of,
)
from waitingroom.conftest import Served, serving

FIXTURES = browser, person  # that the tests ask for


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
