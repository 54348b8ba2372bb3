"""The portal in a real browser: live, by keyboard, at phone width, and to somebody who cannot see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route

from tests.support import git_repos
from tests.support.browser import expect, launched
from tests.support.portal import Portal
from tests.support.waiting import eventually

SLUG = "rocket-bcdfg"
pytestmark = pytest.mark.browser
# What a screen reader could not tell: controls without a name.
UNNAMED = """() => [...document.querySelectorAll('a, button, input:not([type=hidden]), select, summary')]
  .filter((e) => e.checkVisibility())
  .filter((e) => !(e.ariaLabel || e.textContent.trim() || e.labels?.length || e.title))
  .map((e) => e.outerHTML)"""


@pytest.fixture(scope="module")
def running_portal() -> Iterator[Portal]:
    with Portal() as running:
        yield running


@pytest.fixture
def portal(running_portal: Portal) -> Portal:
    """The portal with one person and one stopped workspace."""
    running_portal.stage("rows")
    return running_portal


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as running:
        yield running


@pytest.fixture
def page(browser: Browser, portal: Portal) -> Iterator[Page]:
    """A signed-in page; anything that the browser complains about fails the test."""
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda line: complaints.append(line.text) if "Content Security" in line.text else None)
    opened.goto(portal.url)
    opened.get_by_label("User name").fill("owner")
    opened.get_by_label("Password").fill("owner has a long password")
    opened.keyboard.press("Enter")
    expect(opened.get_by_role("heading", name="Workspaces", exact=True)).to_be_visible()
    # With the page's scripts, without which a button loads another page.
    opened.wait_for_load_state()
    yield opened
    context.close()
    assert complaints == []


def test_a_start_is_followed_without_a_reload_to_its_end(page: Page, portal: Portal) -> None:
    row = page.locator(f"#w-{SLUG}")
    expect(row.get_by_role("heading")).to_have_text("<b>Rocket</b>")
    page.evaluate("window.same = true")
    row.get_by_role("button", name="Start <b>Rocket</b>").click()
    expect(row).to_contain_text("It starts in a moment.")
    portal.stage("starting")
    expect(row).to_contain_text("Cloning acme/rocket")
    assert page.evaluate("window.same")
    row.get_by_role("link", name="Watch").click()
    expect(page.locator("[data-step=content]")).to_contain_text("Cloning acme/rocket")
    portal.stage("failed")
    expect(page.locator("#start_panel")).to_contain_text("The disk is full.")
    expect(page.locator("#start_panel")).to_contain_text("Make room.")
    expect(page.get_by_role("log")).to_contain_text("The fake runtime plays this run.")


def test_a_running_workspace_opens_by_itself(page: Page, portal: Portal) -> None:
    asked: list[str] = []
    page.context.route(f"http://{SLUG}.localhost:{portal.port}/**", lambda route: route.fulfill(body="the editor"))
    page.on("framenavigated", lambda frame: asked.append(frame.url))
    page.goto(f"{portal.url}/workspaces/{SLUG}/start?next=/?folder=/x")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#start_panel")).to_contain_text("It starts in a moment.")
    portal.stage("starting")
    portal.stage("running")
    page.wait_for_url(f"http://{SLUG}.localhost:{portal.port}/?folder=/x")
    expect(page.locator("body")).to_have_text("the editor")


def test_a_workspace_that_sends_back_is_tried_again_at_a_calm_pace(page: Page, portal: Portal) -> None:
    portal.stage("starting")
    portal.stage("running")
    start = f"{portal.url}/workspaces/{SLUG}/start"
    tries: list[str] = []

    def send_back(route: Route) -> None:
        tries.append(route.request.url)
        route.fulfill(status=302, headers={"Location": start})

    def tried(times: int) -> bool:
        page.wait_for_timeout(50)  # Playwright handles routes only while it is called.
        return len(tries) >= times

    page.route(f"http://{SLUG}.localhost:{portal.port}/**", send_back)
    page.clock.install()
    page.goto(start, wait_until="commit")
    eventually(lambda: tried(3), what="three tries")
    expect(page.locator("#start_panel")).to_be_visible()
    page.wait_for_timeout(500)
    assert len(tries) == 3
    page.clock.fast_forward(11_000)
    eventually(lambda: tried(4), what="another try")


def test_a_deletion_can_be_undone_by_keyboard(page: Page, portal: Portal) -> None:
    row = page.locator(f"#w-{SLUG}")
    row.locator("summary").focus()
    page.keyboard.press("Enter")
    for _ in range(2):
        page.keyboard.press("Tab")
    expect(row.get_by_role("button", name="Delete")).to_be_focused()
    page.keyboard.press("Enter")
    expect(row).to_contain_text("Moving to trash")
    page.get_by_role("button", name="Undo").focus()
    page.keyboard.press("Enter")
    expect(row).to_contain_text("Back from the trash")


def test_suggestions_and_branches_are_picked_by_keyboard(page: Page, portal: Portal, tmp_path: Path) -> None:
    origin = git_repos.create(tmp_path / "app.git", {}, branches={"feature/x": {}})
    page.goto(f"{portal.url}/new")
    page.keyboard.type("rocke")
    expect(page.get_by_role("option", name="acme/rocket")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("listbox")).to_have_count(0)
    page.get_by_role("combobox", name="Repository").fill(origin.url)
    expect(page.locator("#repo-facts")).to_contain_text("default branch main")
    page.keyboard.press("Tab")
    page.keyboard.type("feat")
    expect(page.get_by_role("option", name="feature/x")).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("combobox", name="Branch")).to_have_value("feature/x")
    page.get_by_role("button", name="Create and open").dblclick()
    expect(page.locator("#start_panel")).to_be_visible()
    page.goto(portal.url)
    expect(page.locator(".row")).to_have_count(2)


def test_an_answer_that_comes_late_keeps_what_is_pointed_at(page: Page, portal: Portal, tmp_path: Path) -> None:
    origin = git_repos.create(tmp_path / "app.git", {}, branches={"feature/x": {}, "feaz": {}})
    held: list[Route] = []
    page.route(lambda url: url.endswith("query=feat"), lambda route: held.append(route))
    page.goto(f"{portal.url}/new")
    page.get_by_role("combobox", name="Repository").fill(origin.url)
    page.get_by_role("combobox", name="Branch").focus()
    page.keyboard.type("fea")
    option = page.get_by_role("option", name="feature/x")
    expect(page.get_by_role("option")).to_have_count(2)
    page.keyboard.press("ArrowDown")
    expect(option).to_have_attribute("aria-selected", "true")
    page.keyboard.type("t")
    expect(option).to_have_attribute("aria-selected", "false")
    page.keyboard.press("ArrowDown")

    def asked() -> bool:
        page.wait_for_timeout(50)  # Playwright handles routes only while it is called.
        return bool(held)

    eventually(asked, what="the branches are asked for again")
    held[0].continue_()
    expect(page.get_by_role("option")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.get_by_role("combobox", name="Branch")).to_have_value("feature/x")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_a_phone_and_names_its_controls(page: Page, portal: Portal, scheme: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
    for path in ("/", "/new", "/trash", f"/workspaces/{SLUG}", f"/workspaces/{SLUG}/start", "/nothing"):
        page.goto(portal.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
        assert page.evaluate(UNNAMED) == [], path
        assert page.locator("h1").count() == 1, path
        page.keyboard.press("Tab")
        if path != "/new":
            expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()


def test_pages_work_without_scripts(browser: Browser, portal: Portal) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(portal.url)
    page.get_by_label("User name").fill("owner")
    page.get_by_label("Password").fill("owner has a long password")
    page.get_by_role("button", name="Sign in").click()
    page.locator("summary").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("status").filter(has_text="goes to the trash")).to_be_visible()
    expect(page.locator(".row")).to_contain_text("Moving to trash")
    context.close()


@pytest.mark.parametrize("view", ["", "/start"])
def test_the_end_of_a_stream_is_no_loss(page: Page, portal: Portal, view: str) -> None:
    ended: list[str] = []

    def end(route: Route) -> None:
        ended.append(route.request.url)
        route.fulfill(content_type="text/event-stream", body="retry: 100\n\n")

    def again(times: int) -> bool:
        page.wait_for_timeout(50)  # Playwright handles routes only while it is called.
        return len(ended) >= times

    page.route("**/live/**", end)
    page.goto(f"{portal.url}/workspaces/{SLUG}{view}")
    page.evaluate(
        """() => {
          window.notes = [];
          const note = document.getElementById("live-note");
          new MutationObserver(() => notes.push(note.textContent)).observe(note, {childList: true});
        }"""
    )
    eventually(lambda: again(5), what="the stream is opened again")
    assert "".join(page.evaluate("window.notes")) == ""

    page.unroute("**/live/**")
    page.route("**/live/**", lambda route: route.abort())
    expect(page.locator("#live-note")).to_contain_text("Live updates are interrupted")

    page.unroute("**/live/**")
    expect(page.locator("#live-note")).to_be_hidden()
    portal.stage("starting")
    expect(page.locator("[data-step=content]")).to_contain_text("Cloning acme/rocket")


def test_acts_and_failures_are_announced(page: Page, portal: Portal) -> None:
    row = page.locator(f"#w-{SLUG}")
    row.get_by_role("button", name="Start <b>Rocket</b>").click()
    expect(page.locator("#toasts").get_by_text("Starting <b>Rocket</b>.")).to_be_visible()
    portal.stage("starting")
    row.get_by_role("button", name="Stop <b>Rocket</b>").click()
    expect(page.get_by_role("status").filter(has_text="Stopping <b>Rocket</b>.")).to_be_visible()
    expect(page.locator(".toast")).to_have_count(1)
    portal.stage("failed")
    expect(row.get_by_role("status")).to_have_text("<b>Rocket</b> has failed.")

    page.goto(f"{portal.url}/workspaces/{SLUG}")
    expect(page.locator("#detail_head").get_by_role("status")).to_have_text("Failed.")
    # What counts up every two seconds must not be read out.
    assert page.locator("#log").get_by_role("status").all_text_contents() == [""]
    page.route("**/logs", lambda route: route.abort())
    page.get_by_role("button", name="Refresh").click()
    expect(page.locator("#log").get_by_role("status")).to_have_text("The log cannot be read just now.")


def test_errors_stay_and_are_said_once(page: Page, portal: Portal) -> None:
    page.route("**/api/v1/workspaces/*/start", lambda route: route.abort())
    page.clock.install()
    for _ in range(2):
        page.get_by_role("button", name="Start <b>Rocket</b>").click()
        page.clock.run_for(60_000)
    expect(page.locator(".toast")).to_have_count(1)
    expect(page.locator(".toast")).to_contain_text("Slipway cannot be reached")
    page.get_by_role("button", name="Close").click()
    expect(page.locator(".toast")).to_have_count(0)


def test_the_keyboard_stays_where_it_was(page: Page, portal: Portal) -> None:
    portal.stage("starting")
    page.goto(f"{portal.url}/workspaces/{SLUG}")
    delete = page.get_by_role("button", name="Delete <b>Rocket</b>")
    delete.focus()
    delete.evaluate("button => button.addEventListener('blur', () => { window.blurred = true })")
    expect(page.get_by_role("link", name="Watch")).to_be_visible()
    portal.stage("failed")
    expect(page.get_by_role("link", name="Watch")).to_have_count(0)
    expect(delete).to_be_focused()
    assert page.evaluate("window.blurred ?? false") is False


@pytest.mark.parametrize(("path", "part"), [("/", f"#w-{SLUG}"), (f"/workspaces/{SLUG}", "#detail_head")])
def test_the_keyboard_is_led_to_the_part_whose_button_goes(page: Page, portal: Portal, path: str, part: str) -> None:
    portal.stage("starting")
    page.goto(portal.url + path)
    stop = page.get_by_role("button", name="Stop <b>Rocket</b>")
    stop.focus()
    page.keyboard.press("Enter")
    expect(stop).to_have_count(0)
    expect(page.locator(part)).to_be_focused()
    portal.stage("failed")
    expect(page.locator(part)).to_contain_text("The disk is full.")
    expect(page.locator(part)).to_be_focused()
    page.keyboard.press("Tab")
    assert page.locator(part).locator(":focus").count() == 1


def test_pages_rest_while_nothing_is_under_way(page: Page, portal: Portal) -> None:
    page.add_init_script(
        """window.frames_asked = 0;
        const ask = requestAnimationFrame;
        window.requestAnimationFrame = (step) => { window.frames_asked += 1; return ask(step); };"""
    )

    def asked() -> int:
        page.wait_for_timeout(200)
        return int(page.evaluate("window.frames_asked"))

    page.goto(f"{portal.url}/workspaces/{SLUG}")
    page.wait_for_load_state()
    assert asked() == 0
    portal.stage("starting")
    eventually(lambda: asked() > 5, what="the bars grow")
    portal.stage("failed")
    expect(page.locator("#detail_head")).to_contain_text("The disk is full.")
    eventually(lambda: asked() == asked(), what="the bars rest")
