"""The one-time code that brings a session from the portal to a workspace's host."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from gateway.paths import is_local
from tests.gateway.stage import OWNER, Stage, staged


async def begin(stage: Stage, host: str = "demo.localhost", path: str = "/a?b=c") -> tuple[str, dict[str, str]]:
    """Load a page as a stranger; returns the nonce and what the portal is told."""
    status, headers, _ = await stage.ask(path, headers=stage.page(host, Cookie=""))
    assert status == 302
    location = urlsplit(headers["Location"])
    assert location._replace(query="").geturl() == "http://localhost:8000/gateway/enter"
    cookie = headers["Set-Cookie"]
    assert cookie.startswith("slipway_nonce=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=600"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    return cookie.split(";")[0].partition("=")[2], {k: v[0] for k, v in parse_qs(location.query).items()}


def enter(code: str, target: str, state: str = "") -> str:
    return f"/_slipway/enter?code={code}&state={state}&next={quote(target, safe='')}"


class Tab:
    """A tab on its way from a page through the portal and back; tabs of one browser share its cookies."""

    _numbers = itertools.count()

    def __init__(self, stage: Stage, cookies: dict[str, str], path: str) -> None:
        self._stage, self._cookies, self._address = stage, cookies, path
        self.status, self.page = 0, b""

    async def load(self) -> dict[str, str]:
        """Ask, with the cookies of now; what was given: cookies, and a location."""
        held = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        async with self._stage.session.get(
            self._stage.url(self._address), headers=self._stage.page(Cookie=held), allow_redirects=False
        ) as answer:
            given = dict(pair.split(";")[0].split("=", 1) for pair in answer.headers.getall("Set-Cookie", []))
            self.status, self.page = answer.status, await answer.read()
            return {"location": answer.headers.get("Location", ""), **given}

    async def step(self) -> None:
        """One redirect on the way."""
        self.take(await self.load())

    def take(self, given: dict[str, str]) -> None:
        """Keep the cookies, and note where to go; the portal signs in whoever comes."""
        location = given.pop("location")
        for name, value in given.items():
            self._cookies.pop(name, None)
            if value:
                self._cookies[name] = value
        if "/gateway/enter?" in location:
            asked = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
            code = f"code-{next(self._numbers)}"
            self._stage.web.mint(code, label=asked["label"], state=asked["state"])
            location = enter(code, asked["next"], asked["state"])
        self._address = location or self._address

    async def arrive(self) -> None:
        """Go on to the end, which is not far."""
        for _ in range(8):
            await self.step()
            if self.status not in (302, 303):
                return


@pytest.mark.parametrize("order", ["together", "one-after-the-other", "first-comes-last"])
async def test_two_tabs_sign_in_side_by_side(stage: Stage, order: str) -> None:
    cookies: dict[str, str] = {}
    first, second = Tab(stage, cookies, "/first"), Tab(stage, cookies, "/second")
    if order == "together":
        # As when a browser restores its tabs: neither knows of the other's nonce.
        answers = [await tab.load() for tab in (first, second)]
        for tab, given in zip((first, second), answers, strict=True):
            tab.take(given)
    else:
        for tab in (first, second):
            await tab.step()
    for tab in (second, first) if order == "first-comes-last" else (first, second):
        await tab.arrive()
        assert tab.status == 200, tab.page
    assert {request.path for request in stage.workspace.requests} == {"/first", "/second"}
    assert cookies == {"slipway_workspace": OWNER}


async def test_a_link_that_was_used_leads_on_whoever_is_signed_in_and_others_to_a_new_start(stage: Stage) -> None:
    used = enter("used", "/x?y=1", "f" * 64)
    status, headers, _ = await stage.ask(used, headers=stage.page())
    assert (status, headers["Location"], "Set-Cookie" in headers) == (303, "/x?y=1", False)
    status, headers, page = await stage.ask(used, headers=stage.page(Cookie=""))
    assert (status, "Location" in headers) == (400, False)
    assert b'<a href="/x?y=1">Open it again.</a>' in page


async def test_a_nonce_that_is_none_of_ours_is_replaced(stage: Stage) -> None:
    for nonce in ("", "short", "x" * 44, "x" * 42 + "%", "é" * 43):
        _, headers, _ = await stage.ask(headers=stage.page(Cookie=f"slipway_nonce={nonce}"))
        assert f"slipway_nonce={nonce};" not in headers["Set-Cookie"]
    _, headers, _ = await stage.ask(headers=stage.page(Cookie=f"slipway_nonce={'x' * 43}"))
    assert headers["Set-Cookie"].startswith(f"slipway_nonce={'x' * 43}; Path=/; Max-Age=600")


async def test_pages_that_name_the_portal_lead_there(stage: Stage) -> None:
    for host, path in (("theirs.localhost", "/"), ("9x.localhost", "/"), ("demo.localhost", "/_slipway/x")):
        status, _, page = await stage.ask(path, headers=stage.page(host))
        assert (status, b'<a href="http://localhost:8000/">Go to the portal.</a>' in page) == (404, True), host


@pytest.mark.parametrize(("host", "label"), [("demo.localhost", "demo"), ("3000-demo.localhost", "3000-demo")])
async def test_sign_in_ends_with_a_cookie_of_this_host(stage: Stage, host: str, label: str) -> None:
    nonce, told = await begin(stage, host)
    assert (told["label"], told["next"], len(told["state"])) == (label, "/a?b=c", 64)
    stage.web.mint("code-1", label=told["label"], state=told["state"])
    with_nonce = stage.page(host, Cookie=f"slipway_nonce={nonce}")
    async with stage.session.get(
        stage.url(enter("code-1", told["next"])), headers=with_nonce, allow_redirects=False
    ) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/a?b=c")
        kept, dropped = answer.headers.getall("Set-Cookie")
    assert kept == f"slipway_workspace={OWNER}; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"
    assert dropped.startswith("slipway_nonce=; Path=/; Max-Age=0")
    assert (await stage.ask(headers=stage.page(host, Cookie=kept.split(";")[0])))[0] == 200


@pytest.fixture
async def secure(short_folder: Path) -> AsyncIterator[Stage]:
    """A stage that browsers see through https."""
    async with staged(short_folder, portal_url="https://localhost") as running:
        yield running


async def test_on_https_cookies_have_names_that_no_other_host_can_set(secure: Stage) -> None:
    _, headers, _ = await secure.ask(headers=secure.page(Cookie=""))
    pair, *attributes = headers["Set-Cookie"].split("; ")
    name, _, nonce = pair.partition("=")
    assert name == "__Host-slipway_nonce"
    assert attributes == ["Path=/", "Max-Age=600", "HttpOnly", "SameSite=Lax", "Secure"]
    secure.web.mint("code", label="demo", state=hashlib.sha256(nonce.encode()).hexdigest())
    both = secure.page(Cookie=f"slipway_nonce=planted; __Host-slipway_nonce={nonce}")
    async with secure.session.get(secure.url(enter("code", "/")), headers=both, allow_redirects=False) as answer:
        assert answer.status == 303
        kept, dropped = answer.headers.getall("Set-Cookie")
    assert kept == f"__Host-slipway_workspace={OWNER}; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax; Secure"
    assert dropped == "__Host-slipway_nonce=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure"
    status, _, body = await secure.ask(headers=secure.headers(Cookie=f"a=1; {kept.split(';')[0]}"))
    assert (status, body["headers"]["Cookie"]) == (200, "a=1")


async def test_on_https_a_cookie_that_another_host_can_set_counts_for_nothing(secure: Stage) -> None:
    for name in ("slipway_workspace", "__Secure-slipway_workspace", "__host-slipway_workspace"):
        assert (await secure.ask(headers=secure.headers(Cookie=f"{name}={OWNER}")))[0] == 401, name
    nonce = "planted"
    secure.web.mint("code", label="demo", state=hashlib.sha256(nonce.encode()).hexdigest())
    planted = secure.page(Cookie=f"slipway_nonce={nonce}")
    assert (await secure.ask(enter("code", "/"), headers=planted))[0] == 400
    # One that was planted beside the real one neither hides it nor reaches the workspace.
    both = secure.headers(Cookie=f"slipway_workspace=planted; __Host-slipway_workspace={OWNER}")
    status, _, body = await secure.ask(headers=both)
    assert (status, "Cookie" in body["headers"]) == (200, False)


async def test_on_http_the_names_of_https_count_for_nothing(stage: Stage) -> None:
    assert (await stage.ask(headers=stage.headers(Cookie=f"__Host-slipway_workspace={OWNER}")))[0] == 401


async def test_a_code_is_worth_nothing_without_its_nonce_and_only_once(stage: Stage) -> None:
    nonce, told = await begin(stage)
    for cookie in ("", "slipway_nonce=another"):
        stage.web.mint("code-1", label="demo", state=told["state"])
        status, headers, page = await stage.ask(enter("code-1", "/"), headers=stage.page(Cookie=cookie))
        assert status == 400
        assert b"no longer valid" in page
        assert "Set-Cookie" not in headers
    stage.web.mint("code-2", label="demo", state=told["state"])
    mine = stage.page(Cookie=f"slipway_nonce={nonce}")
    assert (await stage.ask(enter("code-2", "/"), headers=mine))[0] == 303
    assert (await stage.ask(enter("code-2", "/"), headers=mine))[0] == 400
    stage.web.mint("code-3", label="demo", state=told["state"])
    other_host = stage.page("3000-demo.localhost", Cookie=f"slipway_nonce={nonce}")
    assert (await stage.ask(enter("code-3", "/"), headers=other_host))[0] == 400


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "\\/evil", "/a\r\nSet-Cookie: x=y", "",
     "javascript:x", "/\t/evil.example", "/_slipway/enter?code=x"],
)  # fmt: skip
async def test_the_way_on_never_leaves_the_host(stage: Stage, target: str) -> None:
    nonce, told = await begin(stage)
    stage.web.mint("code", label="demo", state=told["state"])
    status, headers, _ = await stage.ask(enter("code", target), headers=stage.page(Cookie=f"slipway_nonce={nonce}"))
    assert (status, headers["Location"]) == (303, "/")


async def test_a_foreign_target_is_not_even_told_to_the_portal(stage: Stage) -> None:
    head = f"GET //evil.example/x HTTP/1.1\r\nHost: demo.localhost:{stage.port}\r\nAccept: text/html\r\n\r\n"
    reader, writer = await stage.raw(head.encode())
    answer = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode()
    assert "next=%2F\r\n" in answer
    writer.close()


async def test_programs_get_a_problem_instead_of_a_redirect(stage: Stage) -> None:
    status, headers, problem = await stage.ask(headers=stage.headers(Cookie="", Accept="application/json"))
    assert (status, problem["code"], "Location" in headers) == (401, "unauthenticated", False)
    assert (await stage.ask(method="POST", headers=stage.page(Cookie="")))[0] == 401


async def test_the_reserved_prefix_never_reaches_the_workspace(stage: Stage) -> None:
    for path in ("/_slipway/", "/_slipway/other", "/_slipway/enter?code=" + "x" * 8000):
        assert (await stage.ask(path))[0] in (303, 400, 404)
    assert not stage.workspace.requests


def test_local_targets() -> None:
    assert is_local("/")
    assert is_local("/a//b?next=//c#d")
    assert not is_local("a")
