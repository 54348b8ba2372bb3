"""The main job, in a real browser: from a sign-in link to typing in VS Code, and nothing lost on the way back."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page

from tests.support.browser import expect, picture
from tests.support.platform import Platform
from tests.support.waiting import eventually

pytestmark = [pytest.mark.browser, pytest.mark.ide, pytest.mark.timeout(300)]

APP_ROW = '.explorer-folders-view .monaco-list-row:has-text("app.py")'


def open_file_and_type_in_the_terminal(page: Page, checkout: Path) -> None:
    """What somebody does in an editor; the proof is on disk."""
    page.locator(APP_ROW).dblclick(timeout=60_000)
    expect(page.locator(".monaco-editor .view-line").first).to_contain_text("lift-off")
    page.keyboard.press("Control+Backquote")
    terminal = page.locator(".terminal.xterm")
    terminal.wait_for()
    marker = checkout / "typed.txt"

    def typed() -> bool:
        # The shell's prompt may come later than the terminal's frame: what is typed too early is typed again.
        terminal.click()
        page.keyboard.type("echo $FROM_DEVCONTAINER $(id -un) > typed.txt\n", delay=15)
        page.wait_for_timeout(1_500)
        return marker.exists() and bool(marker.read_text().strip())

    eventually(typed, timeout=40, what="the terminal writes a file")
    assert marker.read_text().split() == ["yes", "dev"]


def _id_of(platform: Platform, slug: str) -> str:
    _, listed = platform.api("GET", "/workspaces?limit=200")
    return next(str(entry["id"]) for entry in listed["results"] if entry["slug"] == slug)


def test_from_a_sign_in_link_to_vs_code_and_back(platform: Platform, rocket: str, page: Page) -> None:
    page.goto(platform.manage("sign_in_link"))
    expect(page).to_have_url(f"{platform.url}/")
    page.goto(f"{platform.url}/new")
    page.get_by_role("combobox", name="Repository").fill(rocket)
    page.get_by_role("combobox", name="Branch").focus()
    expect(page.get_by_text("default branch main")).to_be_visible()
    picture(page, "new")
    page.get_by_label("Name", exact=False).last.fill("Moon shot")
    # The start page may be gone again a second later: its address is taken from the navigation itself.
    with page.expect_navigation(url="**/workspaces/*/start*") as going:
        page.get_by_role("button", name="Create and open").click()
    slug = urlsplit(going.value.url).path.split("/")[2]
    picture(page, "start")

    page.wait_for_url(f"http://{slug}.localhost:{platform.port}/**", timeout=60_000)
    checkout = platform.home / "workspaces" / slug / "home" / "rocket"
    open_file_and_type_in_the_terminal(page, checkout)
    picture(page, "vscode")

    page.goto(f"{platform.url}/workspaces/{slug}")
    expect(page.locator("#log")).to_contain_text("postCreateCommand is done")
    assert (checkout / "prepared.txt").read_text() == "prepared\n"
    expect(page.locator("#log")).not_to_contain_text("Could not locate the bindings file")
    expect(page.get_by_text("Cloned acme/rocket").first).to_be_visible()
    page.locator("#log-source").select_option("postCreateCommand")
    picture(page, "detail")
    page.get_by_role("button", name="Stop Moon shot").click()
    expect(page.get_by_text("Stopped", exact=True).first).to_be_visible()
    assert platform.runs(slug) == []

    workspace_id = _id_of(platform, slug)
    page.goto(f"http://{slug}.localhost:{platform.port}/")
    page.wait_for_selector(APP_ROW, timeout=90_000)
    assert (checkout / "typed.txt").read_text().split() == ["yes", "dev"]

    page.goto(f"{platform.url}/")
    picture(page, "list")
    page.goto(f"{platform.url}/workspaces/{slug}")
    page.get_by_role("button", name="Delete Moon shot").click()
    platform.wait_for(workspace_id, "deleted")
    assert platform.runs(slug) == []
    page.goto(f"{platform.url}/trash")
    expect(page.get_by_text("Moon shot")).to_be_visible()
    picture(page, "trash")
    page.get_by_role("button", name="Restore Moon shot").click()
    platform.wait_for(workspace_id, "stopped")
    assert (checkout / "typed.txt").exists()
    platform.api("DELETE", f"/workspaces/{workspace_id}")


def test_an_address_opened_during_a_start_leads_to_the_editor(platform: Platform, rocket: str, page: Page) -> None:
    page.goto(platform.manage("sign_in_link"))
    workspace = platform.create(rocket)
    page.goto(workspace["url"])
    page.wait_for_selector(APP_ROW, timeout=60_000)


def test_signing_out_closes_the_editor(platform: Platform, rocket: str, page: Page) -> None:
    workspace = platform.create(rocket)
    platform.wait_for(workspace["id"], "running")
    page.goto(platform.manage("sign_in_link"))
    sockets: list[bool] = []
    editor = page.context.new_page()

    def watch(socket: object) -> None:
        sockets.append(True)
        socket.on("close", lambda _: sockets.pop())  # type: ignore[attr-defined]  # Playwright's own type is private.

    editor.on("websocket", watch)
    editor.goto(workspace["url"])
    editor.wait_for_selector(APP_ROW, timeout=60_000)
    assert sockets
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(f"{platform.url}/sign-in")

    def closed() -> bool:
        editor.wait_for_timeout(50)
        return not sockets

    eventually(closed, timeout=20, what="the editor's sockets close")
    answer = editor.goto(workspace["url"])
    assert answer is not None
    assert urlsplit(editor.url).path == "/sign-in"
    platform.api("DELETE", f"/workspaces/{workspace['id']}")
