"""The one-time code that brings a session from the portal to a workspace's host."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from gateway.paths import is_local
from tests.gateway.stage import OWNER, Stage


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


def enter(code: str, target: str) -> str:
    return f"/_slipway/enter?code={code}&next={quote(target, safe='')}"


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
    answer = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode()
    assert "next=%2F\r\n" in answer
    writer.close()


async def test_programs_get_a_problem_instead_of_a_redirect(stage: Stage) -> None:
    status, headers, problem = await stage.ask(headers=stage.headers(Cookie="", Accept="application/json"))
    assert (status, problem["code"], "Location" in headers) == (401, "unauthenticated", False)
    assert (await stage.ask(method="POST", headers=stage.page(Cookie="")))[0] == 401


async def test_the_reserved_prefix_never_reaches_the_workspace(stage: Stage) -> None:
    for path in ("/_slipway/", "/_slipway/other", "/_slipway/enter?code=" + "x" * 8000):
        assert (await stage.ask(path))[0] in (400, 404)
    assert not stage.workspace.requests


def test_local_targets() -> None:
    assert is_local("/")
    assert is_local("/a//b?next=//c#d")
    assert not is_local("a")
