"""Two people and one workspace: somebody is let in, types, and is put out again."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, WebSocket

from tests.support.browser import expect
from tests.support.platform import Platform
from tests.support.waiting import eventually

pytestmark = [pytest.mark.browser, pytest.mark.ide, pytest.mark.timeout(300)]

APP_ROW = '.explorer-folders-view .monaco-list-row:has-text("app.py")'
MAKE_GUEST = """
import django; django.setup()
from accounts.models import User
User.objects.create_user("guest", display_name="Greta Guest")
"""


def _pumped(page: Page) -> bool:
    """Whether the browser was asked for its news: events come only while something is awaited."""
    page.wait_for_timeout(50)
    return True


def test_a_guest_is_let_in_and_put_out(platform: Platform, rocket: str, page: Page, browser: Browser) -> None:
    workspace = platform.create(rocket, name="Shared rocket")
    slug = workspace["slug"]
    platform.wait_for(workspace["id"], "running")
    platform.python("-c", MAKE_GUEST)
    guest = browser.new_context().new_page()
    sockets: list[WebSocket] = []
    guest.on("websocket", lambda socket: sockets.append(socket))
    guest.goto(platform.manage("sign_in_link", "guest"))
    expect(guest.get_by_text("No workspaces yet")).to_be_visible()
    assert guest.goto(workspace["url"]).status == 404  # type: ignore[union-attr]  # There is an answer.

    page.goto(platform.manage("sign_in_link"))
    page.goto(f"{platform.url}/workspaces/{slug}")
    page.get_by_label("Name, address or team").fill("nobody-here")
    page.get_by_role("button", name="Share", exact=True).click()
    expect(page.get_by_text("Nobody here is called")).to_be_visible()
    page.get_by_label("Name, address or team").fill("guest")
    page.get_by_role("button", name="Share", exact=True).click()
    expect(page.locator("#shares")).to_contain_text("Greta Guest may use it")

    guest.goto(f"{platform.url}/")
    expect(guest.get_by_text("shared by Admin")).to_be_visible()
    guest.get_by_role("link", name="Open Shared rocket").click()
    guest.locator(APP_ROW).dblclick(timeout=60_000)
    expect(guest.locator(".monaco-editor .view-line").first).to_contain_text("lift-off")

    assert sockets
    assert not all(socket.is_closed() for socket in sockets)
    page.get_by_role("button", name="End the access of Greta Guest").click()
    expect(page.locator("#shares")).to_contain_text("Nobody else")
    # The editor's sockets are cut, and it may not come back.
    eventually(lambda: _pumped(guest) and all(socket.is_closed() for socket in sockets), timeout=15)
    assert guest.goto(workspace["url"]).status == 404  # type: ignore[union-attr]
    guest.context.close()
