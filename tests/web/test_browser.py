"""The page in a real browser: what it shows is what is there, live, for mouse, keyboard and screen readers."""

from __future__ import annotations

import re
import shutil
import time

import pytest
from playwright.sync_api import expect

from benchmarks.listing import fill
from tasklocks import RateLimit
from tasklocks.backends import Backend
from tasklocks.testing.asking import Line, away, look, taken
from tests.conftest import missing_program
from tests.web.browser import PROGRAM, a_browser, a_page
from tests.web.conftest import TOKEN, Served
from tests.web.scene import a_night, about, ticks


# Of this module only: while it is open, its event loop runs in this thread.
@pytest.fixture(scope="module")
def browser():
    if shutil.which(PROGRAM) is None:
        missing_program(PROGRAM)
    with a_browser() as opened:
        yield opened


@pytest.fixture
def page(browser, serve):
    # `serve` so that it is closed before the server is, of which it would complain.
    with a_page(browser) as opened:
        yield opened


@pytest.fixture
def url(new_backend_url) -> str:
    return new_backend_url("redis")


@pytest.fixture
def backend(url, backend_of) -> Backend:
    return backend_of(url)


def row(page, name: str):
    return page.locator(f'tr[data-name="{name}"]')


def test_the_list_is_live(page, url, backend, serve):
    page.goto(serve(url, "--every", "0.2").url)
    expect(page.locator("#found")).to_have_text("No limit is in use")
    taken(backend, "a", "report", capacity=2)
    expect(row(page, "report")).to_contain_text("1/2")
    with Line(backend) as line:
        line.join("b", "report", permits=2, capacity=2)
        expect(row(page, "report").locator("td").nth(1)).to_have_text("1")
        expect(row(page, "report").locator(".badge")).to_have_text("idle permit")
    backend.release("report", "b")
    taken(backend, "c", "report", capacity=2)
    expect(row(page, "report")).to_contain_text("2/2")
    taken(backend, "d", "other")
    expect(page.locator("#totals")).to_contain_text("2 limits in use")
    backend.release("report", "a")
    backend.release("report", "c")
    expect(row(page, "report")).to_have_count(0)


def test_the_values_of_a_limit_are_those_of_the_backend(page, url, backend, serve):
    grant = taken(backend, "id-1:x", "report", info=about("report", "id-1", "w7", 4711))
    look(backend, "id-2:x", "report", place=away("task:id-2"), info=about("mail", "id-2"))
    page.goto(f"{serve(url).url}/#/limit/report")
    holder = page.get_by_role("table", name="Holders").locator("tbody tr")
    for text in ("shop.report", "id-1", "celery@w7", "4711", str(grant.fencing_token)):
        expect(holder).to_contain_text(text)
    waiter = page.get_by_role("table", name="Waiters").locator("tbody tr")
    expect(waiter.locator("td").first).to_have_text("1")
    expect(waiter.locator(".why")).to_contain_text(
        "shop.mail[id-2] on celery@w1 pid 811 has waited for a permit of 'report'"
    )
    expect(waiter.locator(".why")).to_contain_text("it is next in line")
    before = holder.locator("td").nth(6).inner_text()
    expect(holder.locator("td").nth(6)).not_to_have_text(before)


def test_the_picture_marks_an_overlap_and_an_idle_permit_and_nothing_else(page, url, backend, serve):
    served = serve(url, "--every", "0.2")
    # Of very many permits there is no lane for each, but the same marks.
    taken(backend, "a", "very-many", capacity=1000, permits=600)
    look(backend, "b", "very-many", capacity=500)
    with a_night(backend):
        page.goto(served.url)
        expect(row(page, "save-to-storage").locator(".badge")).to_have_text("overlap")
        marks = {
            "save-to-storage": {"waiting": 1, "over": 1, "idle": 0},
            "report-pdf": {"waiting": 1, "over": 0, "idle": 1},
            "import-7": {"waiting": 2, "over": 0, "idle": 0},
            "very-many": {"held": 0, "over": 1, "idle": 0},
        }
        for name, counts in marks.items():
            page.goto(f"{served.url}/#/limit/{name}")
            expect(page.locator("h2")).to_have_text(name)
            # All marks are drawn at once, so none can be late after those that are there.
            for kind, count in counts.items():
                expect(page.locator(f".timeline .{kind}")).to_have_count(count)


def test_one_of_ten_thousand_limits_is_found_while_one_types(page, redis_server, serve):
    fill(redis_server.url, 10_000)
    page.goto(serve(redis_server.url).url)
    expect(page.locator("#found")).to_have_text(re.compile("1.50 of 10 000 limits"), timeout=20_000)
    began = time.monotonic()
    page.locator("#search").press_sequentially("import-4321")
    expect(row(page, "import-4321")).to_be_visible()
    expect(page.locator("#found")).to_contain_text("of 1 limit")
    assert time.monotonic() - began < 8  # well below one second, if nothing else runs
    page.locator("#search").fill("")
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#found")).to_contain_text(re.compile("51.100 of"))
    assert page.locator("tr[data-name]").count() == 50


def test_rates_and_beats_are_shown(page, url, backend, serve):
    served = serve(url)
    for _ in range(30):
        RateLimit("partner-api", "30/m", backend=backend).reserve()
    ticks(backend)
    page.goto(served.url)
    page.get_by_role("link", name="Rate limits").click()
    expect(page.locator("#rates tbody tr")).to_contain_text(re.compile(r"partner-api\s*even pace\s*\d+ s"))
    page.get_by_role("link", name="Beats").click()
    expect(page.locator("#beats")).to_contain_text("Process 77 on beat-1.shop has led")
    expect(page.locator("#beats tbody tr").first).to_contain_text("about to be sent, or in doubt")


def test_a_name_is_text_whatever_stands_in_it(page, url, backend, serve):
    evil = "<img src=x onerror=\"document.title='evil'\">'/?&#%"
    taken(backend, "a", evil, info=about("<b>bold</b>", "<script>"))
    page.goto(serve(url).url)
    page.get_by_role("link", name=evil).click()
    expect(page.locator("h2")).to_have_text(evil)
    expect(page.locator("#summary")).to_contain_text("1 of 1 permit held")
    expect(page.locator("main img, main b, main script")).to_have_count(0)
    assert page.title() == "tasklocks"


def test_the_page_needs_nothing_from_anywhere_else(page, url, serve):
    served, asked = serve(url), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(served.url)
    expect(page.locator("#told")).to_have_text("live")
    assert asked
    assert [each for each in asked if not each.startswith(served.url)] == []


def logged_in(page, served: Served, fragment: str) -> None:
    page.goto(served.printed)
    expect(page.locator("html")).to_have_class("acting")
    page.evaluate("fragment => { location.hash = fragment }", fragment)


def test_a_lease_is_released_after_a_question_by_who_is_logged_in(page, url, backend, serve):
    served = serve(url, "--allow-actions", "--every", "0.2")
    taken(backend, "id-1:x", "report", info=about("report", "id-1"))
    page.goto(f"{served.url}/#/limit/report")
    expect(page.get_by_role("table", name="Holders")).to_be_visible()
    expect(page.get_by_role("button", name="Release")).to_have_count(0)
    page.goto("about:blank")
    logged_in(page, served, "#/limit/report")
    assert TOKEN not in page.url
    assert TOKEN not in str(page.evaluate("[document.cookie, JSON.stringify(sessionStorage), history.length]"))
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    page.get_by_role("button", name="Release").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert backend.inspect("report").holders
    page.get_by_role("button", name="Release").click()
    expect(page.get_by_role("dialog")).to_contain_text("Take report away from shop.report (id-1)")
    page.get_by_role("dialog").get_by_role("button", name="Release").click()
    expect(page.locator("#limit")).to_contain_text("Nobody holds it")
    assert not backend.inspect("report").holders


def test_a_rate_limit_is_paused_and_resumed_from_the_page(page, url, backend, serve):
    rate = RateLimit("partner", "1000/s", backend=backend)
    rate.reserve()
    logged_in(page, serve(url, "--allow-actions", "--every", "0.2"), "#/rates")
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("dialog").get_by_label("Seconds").fill("300")
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    expect(page.locator("#rates tbody tr")).to_contain_text("5 min")
    assert rate.reserve() > 200
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Resume")).to_have_count(0)
    assert rate.reserve() < 5


def test_who_may_not_read_is_asked_for_the_token(page, url, backend, serve):
    taken(backend, "a", "report")
    page.goto(serve(url, "--private").url)
    expect(page.get_by_role("heading", name="Who are you?")).to_be_visible()
    assert "report" not in page.content()
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    expect(row(page, "report")).to_be_visible()


def test_a_server_that_was_started_anew_asks_who_it_is(browser, url, backend, serve):
    taken(backend, "a", "report")
    first = serve(url, "--private")
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(first.printed)
        expect(row(page, "report")).to_be_visible()
        first.process.stop()
        expect(page.locator("#dot")).to_have_class("bad")
        serve(url, "--private", "--port", first.url.rpartition(":")[2])
        expect(page.get_by_role("heading", name="Who are you?")).to_be_visible(timeout=30_000)
        assert "report" not in page.locator("main").inner_text()


def test_everything_can_be_done_from_the_keyboard(page, url, backend, serve):
    for name in ("import-1", "import-2", "report"):
        taken(backend, "a", name, info=about("report", "aaaa-1"))
    page.goto(serve(url, "--every", "0.2").url)
    expect(row(page, "report")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator("#skip")).to_be_focused()
    assert page.locator("#skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#search")).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.type("report")
    expect(row(page, "import-1")).to_have_count(0)
    expect(page.locator("#search")).to_be_focused()
    link = page.get_by_role("link", name="report")
    for _ in range(8):
        page.keyboard.press("Tab")
        if link.evaluate("link => link === document.activeElement"):
            break
    # Where the keyboard is, it stays, whatever changes around it.
    taken(backend, "a", "report-2")
    expect(row(page, "report-2")).to_be_visible()
    expect(link.first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("h2")).to_have_text("report")
    expect(page.locator("main")).to_be_focused()


def test_those_who_listen_are_told_and_tables_have_headers(page, url, backend, serve):
    look(backend, "a", "report")
    look(backend, "b", "report", place=away("b"))
    page.goto(serve(url).url)
    expect(page.locator("#announced")).to_have_text("1 limit with waiters")
    assert page.locator("#announced").get_attribute("aria-live") == "polite"
    expect(page.get_by_role("columnheader")).to_have_count(6)
    expect(page.get_by_role("rowheader", name="report")).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("Last minutes: .*"))).to_be_visible()
    fields = "[...document.querySelectorAll('input, select, button')]"
    assert page.evaluate(f"{fields}.filter(each => !each.labels?.length && !each.textContent).length") == 0


def test_what_moves_can_be_held_still(page, url, backend, serve):
    taken(backend, "a", "report")
    page.goto(serve(url, "--every", "0.2").url)
    expect(row(page, "report")).to_be_visible()
    page.get_by_role("button", name="Hold still").click()
    taken(backend, "a", "other")
    page.wait_for_timeout(1000)
    expect(row(page, "other")).to_have_count(0)
    page.get_by_role("button", name="Hold still").click()
    expect(row(page, "other")).to_be_visible()


def test_light_dark_and_without_motion(browser, url, backend, serve):
    taken(backend, "a", "report")
    served = serve(url)
    seen = {}
    for scheme in ("light", "dark"):
        with a_page(browser, color_scheme=scheme, reduced_motion="reduce") as page:
            page.goto(served.url)
            expect(row(page, "report")).to_be_visible()
            colours = "(e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color])(document.body)"
            seen[scheme] = page.evaluate(colours)
            assert page.evaluate("getComputedStyle(document.querySelector('.fill')).transitionDuration") == "0s"
    (light, dark_text), (dark, light_text) = (map(_brightness, seen[scheme]) for scheme in ("light", "dark"))
    assert light > 200 > 80 > dark
    assert light_text > 200 > 80 > dark_text


def _brightness(colour: str) -> float:
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3
