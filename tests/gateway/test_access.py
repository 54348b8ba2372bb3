"""Who may pass: decisions, their memory, revocations, and what happens while web or Redis is away."""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest

from gateway.access import Authorizer, Key
from gateway.revocations import CHANNEL
from gateway.web import Web
from tests.gateway.stage import EVENTS, OWNER, TOKEN, Stage, served, staged
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually_async


def publish(valkey: ValkeyServer, **message: str) -> None:
    with valkey.client() as client:
        assert client.publish(CHANNEL, json.dumps(message)) == 1


def known(stage: Stage) -> bool:
    return not stage.gateway.authorizer.redis_away()


async def closed_with(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    message = await socket.receive(timeout=20)
    assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED), message
    return socket.close_code


async def test_decisions_are_remembered_and_asked_once_for_many(stage: Stage) -> None:
    stage.web.hold = asyncio.Event()
    asked = [asyncio.create_task(stage.ask()) for _ in range(20)]
    await eventually_async(lambda: len(stage.gateway.public.connections) == 20 and stage.web.questions)
    stage.web.hold.set()
    assert {(await task)[0] for task in asked} == {200}
    assert (await stage.ask())[0] == 200
    assert stage.web.questions == [{"slug": "demo", "port": None, "cookie": OWNER, "bearer": None, "wake": False}]


async def test_cookie_and_token_are_asked_for_apart(stage: Stage) -> None:
    await stage.ask(headers=stage.headers(Cookie="", Authorization=f"Bearer {TOKEN}"))
    await stage.ask(headers=stage.headers("3000-demo.localhost"))
    assert [(q["cookie"], q["bearer"], q["port"]) for q in stage.web.questions] == [
        (None, TOKEN, None),
        (OWNER, None, 3000),
    ]


async def test_other_peoples_workspaces_are_not_there(stage: Stage) -> None:
    status, _, body = await stage.ask(headers=stage.page("theirs.localhost"))
    assert status == 404
    assert b"No such workspace" in body


async def test_a_no_is_forgotten_soon(stage: Stage) -> None:
    stage.web.ttl = 60.0
    del stage.web.sessions[OWNER]
    assert (await stage.ask())[0] == 401
    stage.web.sessions[OWNER] = "session-2"
    await until(lambda: allowed(stage))


async def until(look: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait for a later answer, such as the one after the two seconds for which a no is remembered."""
    await eventually_async(look, timeout=20, every=0.2)


async def allowed(stage: Stage) -> bool:
    return (await stage.ask())[0] == 200


async def test_memory_of_decisions_is_bounded_and_the_oldest_goes_first(stage: Stage) -> None:
    web = Web(stage.gateway.config, stage.gateway.pool)
    authorizer = Authorizer(web, stage.gateway.config, most_entries=10)
    keys = [Key("demo", None, bearer=False, credential=f"c{number}") for number in range(12)]
    for key in keys:
        await authorizer.get(keys[0], wake=False)
        await authorizer.get(key, wake=False)
    assert len(stage.web.questions) == 12
    await authorizer.get(keys[0], wake=False)
    assert len(stage.web.questions) == 12
    await authorizer.get(keys[1], wake=False)
    assert len(stage.web.questions) == 13


async def test_a_stopped_workspace_wakes_on_a_page_load_only(stage: Stage) -> None:
    stage.web.state = "stopped"
    status, headers, problem = await stage.ask("/x")
    assert (status, headers["Retry-After"], problem["code"]) == (503, "2", "not_running")
    status, headers, _ = await stage.ask("/x?y=1", headers=stage.page())
    assert status == 302
    assert headers["Location"] == "http://localhost:8000/workspaces/demo/start?next=%2Fx%3Fy%3D1"
    assert [q["wake"] for q in stage.web.questions] == [False, True]
    _, headers, _ = await stage.ask("/x?y=1", headers=stage.page("3000-demo.localhost"))
    assert headers["Location"] == "http://localhost:8000/workspaces/demo/start?port=3000&next=%2Fx%3Fy%3D1"


async def test_a_page_load_sees_at_once_that_the_workspace_is_ready_or_stops(stage: Stage) -> None:
    stage.web.state = "stopped"
    assert await redirected(stage)
    stage.web.state = "running"
    assert (await stage.ask(headers=stage.page()))[0] == 200
    # What the page loads is not asked for again, another page is.
    asked = len(stage.web.questions)
    assert (await stage.ask("/script.js"))[0] == 200
    assert len(stage.web.questions) == asked
    stage.web.state = "stopping"
    assert await redirected(stage)


def reloads_to(page: bytes) -> str:
    """Where a page goes by itself; empty when it stays."""
    found = re.search(rb'http-equiv="refresh" content="\d+; url=([^"]+)"', page)
    assert bool(found) == (b'"refresh"' in page), page
    return html.unescape(found[1].decode()) if found else ""


def link_on(page: bytes) -> str:
    found = re.search(rb'<a href="([^"]+)"', page)
    assert found, page
    return html.unescape(found[1].decode())


async def test_a_page_that_reloads_by_itself_wakes_nothing(stage: Stage) -> None:
    page = stage.page("3001-demo.localhost")
    status, _, body = await stage.ask("/x?y=1&z='", headers=page)
    assert (status, stage.web.questions.pop()["wake"]) == (502, True)
    again = reloads_to(body)
    assert again.startswith("/_slipway/again?")
    # As long as nothing listens it goes on asking, and with the first answer it leads back.
    status, _, body = await stage.ask(again, headers=page)
    assert (status, reloads_to(body)) == (502, again)
    async with served(stage.workspace.app(), stage.folder / "run" / "ports" / "3001.sock"):
        status, headers, _ = await stage.ask(again, headers=page)
        assert (status, headers["Location"]) == (302, "/x?y=1&z='")
    stage.web.state = "stopped"
    stage.gateway.authorizer.revoke("workspace", "0f0f-demo")
    status, headers, body = await stage.ask(again, headers=page)
    assert (status, "Location" in headers, reloads_to(body), link_on(body)) == (503, False, "", "/x?y=1&z='")
    assert b"The workspace is not running" in body
    assert not any(question["wake"] for question in stage.web.questions)


async def test_the_editor_s_page_asks_again_without_waking_too(stage: Stage) -> None:
    (stage.folder / "run" / "ide.sock").rename(stage.folder / "ide.away")
    status, _, body = await stage.ask(headers=stage.page())
    assert (status, b"The editor does not answer" in body) == (502, True)
    stage.web.questions.clear()
    again = reloads_to(body)
    stage.gateway.authorizer.revoke("workspace", "0f0f-demo")
    assert (await stage.ask(again, headers=stage.page()))[0] == 502
    (stage.folder / "ide.away").rename(stage.folder / "run" / "ide.sock")
    status, headers, _ = await stage.ask(again, headers=stage.page())
    assert (status, headers["Location"]) == (302, "/")
    assert [question["wake"] for question in stage.web.questions] == [False]


async def test_whoever_is_signed_out_meanwhile_is_not_signed_in_by_a_reload(stage: Stage) -> None:
    status, headers, body = await stage.ask("/_slipway/again?next=%2Fx", headers=stage.page(Cookie=""))
    assert (status, "Location" in headers, reloads_to(body), link_on(body)) == (401, False, "", "/x")


@pytest.mark.parametrize("target", ["https://evil.example", "//evil.example", "/\\evil", "/_slipway/again", ""])
async def test_a_reload_never_leaves_the_host(stage: Stage, target: str) -> None:
    status, headers, _ = await stage.ask(f"/_slipway/again?next={quote(target, safe='')}", headers=stage.page())
    assert (status, headers["Location"]) == (302, "/")


async def test_a_workspace_that_stopped_a_moment_ago_is_asked_for_again(stage: Stage) -> None:
    stage.web.ttl = 60.0
    assert (await stage.ask())[0] == 200
    (stage.folder / "run" / "ide.sock").unlink()
    stage.gateway.pool.close()
    status, _, page = await stage.ask(headers=stage.page())
    assert status == 502
    assert b"The editor does not answer" in page
    stage.web.state = "stopped"
    await until(lambda: redirected(stage))


async def redirected(stage: Stage) -> bool:
    return (await stage.ask(headers=stage.page()))[0] == 302


@pytest.mark.parametrize("message", [{"session": "session-1"}, {"user": "12"}, {"workspace": "0f0f-demo"}])
async def test_a_revocation_closes_sockets_and_streams(
    short_folder: Path, valkey: ValkeyServer, message: dict[str, str]
) -> None:
    async with staged(short_folder, redis_url=valkey.url) as stage:
        await eventually_async(lambda: known(stage))
        socket = await stage.connect()
        stage.workspace_app[EVENTS].put_nowait(b"data: 1\n\n")
        stream = await stage.session.get(stage.url("/sse"), headers=stage.headers())
        await stream.content.readuntil(b"\n\n")
        publish(valkey, session="somebody-else")
        publish(valkey, **message)
        # Still allowed: nothing is closed by the message alone.
        await eventually_async(lambda: len(stage.web.questions) >= 2)
        await socket.send_str("hello")
        assert await socket.receive_str(timeout=20) == "hello"
        del stage.web.sessions[OWNER]
        publish(valkey, **message)
        assert await asyncio.wait_for(closed_with(socket), 20) == 1008
        with pytest.raises(aiohttp.ClientPayloadError):
            await asyncio.wait_for(stream.read(), 20)
        await eventually_async(lambda: stage.workspace.open_sockets == 0)
        assert (await stage.ask())[0] == 401


async def test_access_lost_while_redis_is_away_ends_sockets_in_time(short_folder: Path, valkey: ValkeyServer) -> None:
    async with staged(short_folder, redis_url=valkey.url) as stage:
        await eventually_async(lambda: known(stage))
        socket = await stage.connect()
        valkey.stop()
        await eventually_async(lambda: not known(stage))
        assert (await stage.ask())[0] == 200
        del stage.web.sessions[OWNER]
        assert await asyncio.wait_for(closed_with(socket), 20) == 1008


async def test_redis_comes_back_and_what_was_missed_is_caught_up(short_folder: Path, valkey: ValkeyServer) -> None:
    async with staged(short_folder, redis_url=valkey.url, recheck_away_seconds=60.0) as stage:
        await eventually_async(lambda: known(stage))
        socket = await stage.connect()
        before = len(stage.web.questions)
        valkey.stop()
        await eventually_async(lambda: not known(stage) and len(stage.web.questions) > before)
        del stage.web.sessions[OWNER]
        valkey.start()
        assert await asyncio.wait_for(closed_with(socket), 20) == 1008
        assert known(stage)
        stage.web.sessions[OWNER] = "session-3"
        await until(lambda: allowed(stage))
        socket = await stage.connect()
        del stage.web.sessions[OWNER]
        publish(valkey, session="session-3")
        assert await asyncio.wait_for(closed_with(socket), 20) == 1008


async def test_without_messages_sockets_are_checked_at_intervals(short_folder: Path) -> None:
    async with staged(short_folder, recheck_seconds=0.2) as stage:
        socket = await stage.connect()
        await eventually_async(lambda: len(stage.web.questions) > 2)
        del stage.web.sessions[OWNER]
        assert await asyncio.wait_for(closed_with(socket), 20) == 1008


async def test_web_away_lets_people_go_on_for_a_while_and_nobody_new_in(short_folder: Path) -> None:
    async with staged(short_folder, recheck_seconds=0.2, grace_seconds=5.0) as stage:
        stage.web.ttl = 0.1
        socket = await stage.connect()
        (short_folder / "web.sock").rename(short_folder / "web.away")

        async def turned_away() -> bool:
            # A connection that was in use when web went away is still good for an answer.
            stage.gateway.pool.close()
            status, headers, _ = await stage.ask(headers=stage.headers(Cookie="slipway_workspace=new"))
            return status == 503 and "Retry-After" in headers

        await until(turned_away)
        assert (await stage.ask())[0] == 200
        await socket.send_str("still here")
        assert await socket.receive_str(timeout=20) == "still here"
        status, _, page = await stage.ask(headers={"Host": "localhost", "Accept": "text/html"})
        assert status == 503
        assert b"Slipway is starting" in page
        assert b'http-equiv="refresh"' in page
        assert await asyncio.wait_for(closed_with(socket), 30) == 1013
        assert (await stage.ask())[0] == 503
        (short_folder / "web.away").rename(short_folder / "web.sock")
        assert (await stage.ask())[0] == 200


async def test_a_revocation_while_web_is_away_counts(short_folder: Path, valkey: ValkeyServer) -> None:
    async with staged(short_folder, redis_url=valkey.url) as stage:
        await eventually_async(lambda: known(stage))
        socket = await stage.connect()
        (short_folder / "web.sock").unlink()
        stage.gateway.pool.close()
        publish(valkey, session="session-1")
        assert await asyncio.wait_for(closed_with(socket), 20) == 1013
        assert (await stage.ask())[0] == 503


async def test_a_revocation_that_overtakes_an_answer_is_not_lost(stage: Stage) -> None:
    stage.web.hold = asyncio.Event()
    request = asyncio.create_task(stage.ask())
    await eventually_async(lambda: stage.web.questions)
    old = stage.web.decide(stage.web.questions[0])
    stage.web.sessions.clear()
    decide = stage.web.decide
    answers = iter([old])
    stage.web.decide = lambda question: next(answers, None) or decide(question)  # type: ignore[method-assign]  # Web's stub says first what it knew before.
    stage.gateway.guard.revoke("session", "session-1")
    stage.web.hold.set()
    assert (await request)[0] == 401


async def test_malformed_revocations_do_no_harm(short_folder: Path, valkey: ValkeyServer) -> None:
    async with staged(short_folder, redis_url=valkey.url) as stage:
        await eventually_async(lambda: known(stage))
        socket = await stage.connect()
        with valkey.client() as client:
            for nonsense in (b"x" * 100_000, b"[]", b'{"x":1}', b"\xff\xfe", b'{"session":null}'):
                client.publish(CHANNEL, nonsense)
        del stage.web.sessions[OWNER]
        publish(valkey, session="session-1")
        assert await asyncio.wait_for(closed_with(socket), 20) == 1008


async def test_real_use_is_written_and_keep_alives_are_not(short_folder: Path, valkey: ValkeyServer) -> None:
    async with staged(short_folder, redis_url=valkey.url) as stage:
        with valkey.client() as client:
            socket = await stage.connect()
            for _ in range(50):
                await socket.ping(b"p" * 120)
            await socket.send_str("s" * 300)
            assert await socket.receive_str(timeout=20)
            await stage.ask()
            await stage.gateway.activity.flush()
            assert client.zrange("slipway:activity", 0, -1) == []
            await socket.send_bytes(b"k" * 3000)
            await socket.receive_bytes(timeout=20)
            await use_is_written(stage, valkey)
        await socket.close()


async def test_requests_to_ports_count_as_use(short_folder: Path, valkey: ValkeyServer) -> None:
    async with staged(short_folder, redis_url=valkey.url) as stage:
        # Nothing answers there, so nobody uses anything.
        for _ in range(2):
            assert (await stage.ask(headers=stage.page("3001-demo.localhost")))[0] == 502
        await stage.gateway.activity.flush()
        with valkey.client() as client:
            assert client.zrange("slipway:activity", 0, -1) == []
        await stage.ask(headers=stage.headers("3000-demo.localhost"))
        await use_is_written(stage, valkey)


async def use_is_written(stage: Stage, valkey: ValkeyServer) -> None:
    async def written() -> bool:
        await stage.gateway.activity.flush()
        with valkey.client() as client:
            return bool(client.zrange("slipway:activity", 0, -1) == ["0f0f-demo"])

    await until(written)


async def test_redis_away_does_not_touch_traffic(short_folder: Path) -> None:
    async with staged(short_folder, redis_url=f"unix://{short_folder}/nothing.sock") as stage:
        assert (await stage.ask(headers=stage.headers("3000-demo.localhost")))[0] == 200
        await stage.gateway.activity.flush()
        assert (await stage.ask(headers=stage.headers("3000-demo.localhost")))[0] == 200


@pytest.mark.parametrize(
    ("host", "origin", "site", "status"),
    [
        ("demo.localhost", "http://evil.example", "", 403),
        ("demo.localhost", "null", "", 403),
        ("demo.localhost", "", "cross-site", 403),
        ("demo.localhost", "", "", 200),
        ("3000-demo.localhost", "http://evil.example", "", 200),
        ("3000-demo.localhost", "", "", 200),
        ("3000-demo.localhost", "null", "", 200),
        ("3000-demo.localhost", "null", "cross-site", 200),
        ("3000-demo.localhost", "http://3000-demo.localhost:8000", "same-origin", 200),
        # On a real domain, all workspaces are one site, and the cookie comes along.
        ("3000-demo.localhost", "http://5000-demo.localhost:8000", "same-site", 200),
        ("3000-demo.localhost", "http://demo.localhost:8000", "same-site", 200),
        ("3000-demo.localhost", "http://3000-other.localhost:8000", "same-site", 403),
        ("3000-demo.localhost", "https://Other.LocalHost", "same-site", 403),
        ("3000-demo.localhost", "null", "same-site", 403),
    ],
)
async def test_unsafe_methods_of_other_sites(stage: Stage, host: str, origin: str, site: str, status: int) -> None:
    headers = stage.headers(host, Origin=origin, Sec_Fetch_Site=site)
    assert (await stage.ask("/x", method="POST", headers=headers))[0] == status


async def test_web_may_restart_without_anybody_noticing(short_folder: Path) -> None:
    async with staged(short_folder) as stage:
        socket = await stage.connect()
        (short_folder / "web.sock").unlink()
        async with served(stage.web.app(), short_folder / "web.sock"):
            await socket.send_str("typing")
            assert await socket.receive_str(timeout=20) == "typing"
            assert (await stage.ask())[0] == 200
            assert (await stage.ask(headers=stage.headers("3000-demo.localhost")))[0] == 200
