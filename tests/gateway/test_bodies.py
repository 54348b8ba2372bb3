"""Bodies of requests: limits in size and time towards web, none in size towards workspaces."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config import read
from tests.gateway.stage import MEGA, OWNER, Stage, staged, still
from tests.support.waiting import eventually_async

LIMIT = 1000
PORTAL = "POST /form HTTP/1.1\r\nHost: localhost\r\n"
WORKSPACE = f"POST /up HTTP/1.1\r\nHost: demo.localhost\r\nCookie: slipway_workspace={OWNER}\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
async def small(short_folder: Path) -> AsyncIterator[Stage]:
    async with staged(short_folder, max_web_body_bytes=LIMIT) as running:
        yield running


def chunks(*sizes: int) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (size, b"z" * size) for size in sizes)


async def answer_to(stage: Stage, data: bytes, *more: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send everything, and only then read until the gateway closes the connection."""
    reader, writer = await stage.raw(data)
    for piece in more:
        writer.write(piece)
        await asyncio.wait_for(writer.drain(), 20)
    whole = await asyncio.wait_for(reader.read(), 20)
    head, _, body = whole.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


@pytest.mark.parametrize(
    "rest",
    [
        f"Content-Length: {LIMIT + 1}\r\n\r\n".encode(),
        f"Content-Length: {LIMIT + 1}\r\n\r\n".encode() + b"z" * (LIMIT + 1),
        f"Content-Length: {1 << 50}\r\nExpect: 100-continue\r\n\r\n".encode(),
        CHUNKED.encode() + chunks(LIMIT, 1),
        CHUNKED.encode() + chunks(LIMIT + 1) + b"0\r\n\r\n",
    ],
)
async def test_a_body_too_large_for_web_never_gets_there(small: Stage, rest: bytes) -> None:
    status, headers, body = await answer_to(small, PORTAL.encode() + rest)
    assert (status, headers["Content-Type"], headers["Connection"]) == (413, "application/problem+json", "close")
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (413, "too_large")
    assert str(LIMIT) in problem["detail"]
    assert not small.web.paths


async def test_the_answer_reaches_a_client_that_sends_everything_first(small: Stage) -> None:
    head = f"{PORTAL}Content-Length: {16 * MEGA}\r\n\r\n".encode()
    status, _, _ = await answer_to(small, head, *[b"z" * MEGA] * 16)
    assert status == 413
    status, _, _ = await answer_to(small, (PORTAL + CHUNKED).encode(), *[chunks(MEGA)] * 16)
    assert status == 413
    assert not small.web.paths
    await eventually_async(lambda: not small.gateway.public.connections)


async def test_a_refusal_reaches_a_client_whose_body_was_held_back(stage: Stage) -> None:
    stage.web.hold = asyncio.Event()
    head = f"{WORKSPACE.replace(OWNER, 'nobody')}Content-Length: {16 * MEGA}\r\n\r\n"
    reader, writer = await stage.raw(head.encode())
    writer.write(b"z" * 16 * MEGA)
    await eventually_async(lambda: stage.web.questions)
    await eventually_async(still(writer.transport.get_write_buffer_size))
    stage.web.hold.set()
    await asyncio.wait_for(writer.drain(), 20)
    assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 401")


async def test_a_person_gets_a_page(small: Stage) -> None:
    head = f"{PORTAL}Accept: text/html,*/*\r\nContent-Length: {LIMIT + 1}\r\n\r\n".encode()
    status, headers, body = await answer_to(small, head)
    assert (status, headers["Content-Type"]) == (413, "text/html; charset=utf-8")
    assert b"too large" in body


@pytest.mark.parametrize("method", ["POST", "PUT", "GET"])
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_that_just_fits_passes_however_it_is_cut(small: Stage, method: str, chunked: bool) -> None:
    head = PORTAL.replace("POST", method)
    reader, writer = await small.raw((head + (CHUNKED if chunked else f"Content-Length: {LIMIT}\r\n\r\n")).encode())
    for _ in range(10):
        writer.write(chunks(LIMIT // 10) if chunked else b"z" * (LIMIT // 10))
        await writer.drain()
    # The connection serves the next request, too.
    writer.write((b"0\r\n\r\n" if chunked else b"") + b"GET /next HTTP/1.1\r\nHost: localhost\r\n")
    writer.write(b"Connection: close\r\n\r\n")
    answers = await asyncio.wait_for(reader.read(), 20)
    assert answers.count(b"HTTP/1.1 200") == 2
    assert b'"length": %d' % LIMIT in answers
    assert small.web.paths == ["/form", "/next"]


@pytest.mark.parametrize("size", [65_537, 100_000, 300_000, MEGA])
@pytest.mark.parametrize("chunked", [True, False])
async def test_the_connection_of_an_upload_serves_the_next_request(stage: Stage, size: int, *, chunked: bool) -> None:
    body = chunks(size) + b"0\r\n\r\n" if chunked else b"z" * size
    head = WORKSPACE + (CHUNKED if chunked else f"Content-Length: {size}\r\n\r\n")
    reader, writer = await stage.raw(head.encode())
    await eventually_async(lambda: stage.workspace.requests)
    # Nothing but the body's end is read last, and more of it than a head may have.
    writer.write(body)
    assert b'"length": %d,' % size in await asyncio.wait_for(reader.readuntil(b'"digest": "'), 20)
    await asyncio.wait_for(reader.readuntil(b'"}'), 20)
    writer.write(WORKSPACE.replace("POST", "GET").encode() + b"Connection: close\r\n\r\n")
    rest = await asyncio.wait_for(reader.read(), 20)
    assert rest.startswith(b"HTTP/1.1 200")
    assert rest.count(b"HTTP/1.1") == 1


async def test_web_hears_of_a_request_only_when_it_is_whole(small: Stage) -> None:
    head = f"{PORTAL}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    reader, writer = await small.raw(head.encode())
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (await small.ask("/meanwhile", headers={"Host": "localhost"}))[0] == 200
    writer.write(b"hello")
    assert (await asyncio.wait_for(reader.readline(), 20)).startswith(b"HTTP/1.1 200")
    assert small.web.paths == ["/meanwhile", "/form"]
    reader, writer = await small.raw(f"{PORTAL}Content-Length: 5\r\n\r\nhel".encode())
    await eventually_async(lambda: len(small.gateway.public.connections) == 3)
    writer.close()
    await eventually_async(lambda: len(small.gateway.public.connections) == 2)
    assert (await small.ask("/last", headers={"Host": "localhost"}))[0] == 200
    assert small.web.paths == ["/meanwhile", "/form", "/last"]


async def test_a_malformed_body_is_refused(small: Stage) -> None:
    status, _, _ = await answer_to(small, (PORTAL + CHUNKED).encode() + chunks(5), b"nonsense\r\n")
    assert status == 400
    assert not small.web.paths


@pytest.mark.parametrize("length", ["Content-Length: 40", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("first", [PORTAL.replace("POST", "GET"), WORKSPACE.replace("POST", "GET")])
async def test_a_websocket_handshake_has_no_body(small: Stage, first: str, length: str) -> None:
    head = f"{first}Connection: Upgrade\r\nUpgrade: websocket\r\nOrigin: http://demo.localhost\r\n{length}\r\n\r\n"
    status, _, _ = await answer_to(small, head.encode() + b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status == 400
    assert not small.web.paths
    assert not small.workspace.requests


async def test_a_body_for_web_has_to_arrive_in_time(short_folder: Path) -> None:
    async with staged(short_folder, body_seconds=0.3) as stage:
        slow, writer = await stage.raw(f"{PORTAL}Content-Length: 100\r\n\r\nz".encode())
        upload, up = await stage.raw(f"{WORKSPACE}Content-Length: 5\r\n\r\nhe".encode())
        answer = asyncio.create_task(slow.readuntil(b"\r\n\r\n"))
        # A byte now and then does not put the clock back.
        await eventually_async(lambda: answer.done() or not send(writer, b"z"), every=0.05, timeout=20)
        head = await answer
        assert head.startswith(b"HTTP/1.1 408")
        assert b"Connection: close" in head
        assert b'"code": "body_too_slow"' in await asyncio.wait_for(slow.read(), 20)
        assert not stage.web.paths
        # A workspace's upload takes as long as it takes.
        up.write(b"llo")
        assert (await asyncio.wait_for(upload.readline(), 20)).startswith(b"HTTP/1.1 200")


def send(writer: asyncio.StreamWriter, data: bytes) -> int:
    writer.write(data)
    return len(data)


async def test_a_body_that_stalls_is_not_waited_for_for_ever(short_folder: Path) -> None:
    async with staged(short_folder, idle_seconds=2.0) as stage:
        talk, voice = await stage.raw((WORKSPACE.replace("/up", "/talk") + CHUNKED).encode() + chunks(3))
        assert b"ZZZ" in await asyncio.wait_for(talk.readuntil(b"ZZZ"), 20)
        for stalled in (
            f"{WORKSPACE}Content-Length: 9\r\n\r\nhe",
            WORKSPACE + CHUNKED,
            WORKSPACE + CHUNKED + "2\r\nhe",
        ):
            status, headers, body = await answer_to(stage, stalled.encode())
            assert (status, headers["Connection"]) == (408, "close")
            assert json.loads(body)["code"] == "body_too_slow"
        # Where an answer has begun, both sides may be silent.
        voice.write(chunks(4) + b"0\r\n\r\n")
        assert b"ZZZZ" in await asyncio.wait_for(talk.readuntil(b"0\r\n\r\n"), 20)


@pytest.mark.parametrize("way", ["socket", "network"])
@pytest.mark.parametrize("status", [400, 401, 409, 413, 429, 503])
async def test_what_web_says_to_an_agent_is_passed_on(stage: Stage, status: int, way: str) -> None:
    stage.web.report_status = status
    async with stage.agent(way) as session:
        # Two requests: the connection stays usable.
        for size in (10, 100_000):
            async with session.post("/internal/agent/report", data=b"r" * size) as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (status, "7")
                assert answer.content_type == "application/problem+json"
                assert json.loads(await answer.read()) == {"status": status, "code": "from_web"}
    assert [len(report["body"]) for report in stage.web.reports] == [10, 100_000]


@pytest.mark.parametrize("way", ["socket", "network"])
@pytest.mark.parametrize("chunked", [True, False])
async def test_an_agents_body_is_limited_too(small: Stage, chunked: bool, way: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(LIMIT + 1):
            yield b"z"

    async with small.agent(way) as session:
        data = pieces() if chunked else b"z" * (LIMIT + 1)
        async with session.post("/internal/agent/report", data=data) as answer:
            assert (answer.status, json.loads(await answer.read())["code"]) == (413, "too_large")
    assert not small.web.reports


def test_the_limits_are_settings() -> None:
    secret = {"SLIPWAY_INTERNAL_SECRET": "s"}
    config = read(["--web", "unix:/x"], secret)
    assert (config.max_web_body_bytes, config.body_seconds) == (131_072, 30.0)
    config = read(["--web", "unix:/x", "--max-web-body-bytes", "5", "--body-seconds", "1.5"], secret)
    assert (config.max_web_body_bytes, config.body_seconds) == (5, 1.5)
