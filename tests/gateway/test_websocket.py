"""WebSockets through the gateway."""

from __future__ import annotations

import asyncio
import base64
import os

import aiohttp
import pytest

from gateway.frames import FrameTracker, close_frame
from tests.gateway.stage import MEGA, OWNER, TOKEN, Stage, still
from tests.support.waiting import eventually_async


async def test_frames_of_8_mib_pass_both_ways_uncompressed(stage: Stage) -> None:
    socket = await stage.connect(compress=15)
    assert not socket.compress
    data = os.urandom(8 * MEGA)
    await socket.send_bytes(data)
    assert (await socket.receive_bytes(timeout=20)) == data
    await socket.close()


async def test_subprotocol_is_negotiated_with_the_workspace(stage: Stage) -> None:
    socket = await stage.connect(protocols=("one", "two"))
    assert socket.protocol == "two"
    await socket.close()


async def test_close_codes_pass_both_ways(stage: Stage) -> None:
    socket = await stage.connect()
    await socket.send_str("bye")
    message = await socket.receive(timeout=20)
    assert (message.type, socket.close_code, message.extra) == (aiohttp.WSMsgType.CLOSE, 4321, "see you")
    socket = await stage.connect()
    await socket.close(code=4001)
    await eventually_async(lambda: stage.workspace.close_code == 4001)


async def test_a_slow_reader_slows_the_workspace_down(stage: Stage) -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    head = f"GET /ws HTTP/1.1\r\nHost: demo.localhost:{stage.port}\r\nOrigin: http://demo.localhost:{stage.port}\r\n"
    head += f"Cookie: slipway_workspace={OWNER}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    head += f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    # The first frame comes in one piece with the handshake.
    reader, writer = await stage.raw(head.encode() + b"\x81\x85\x00\x00\x00\x00flood")
    assert b"101" in await reader.readuntil(b"\r\n\r\n")
    await eventually_async(still(lambda: stage.workspace.received))
    assert stage.workspace.received < 48 * MEGA
    await asyncio.wait_for(reader.readexactly(60 * MEGA), 20)
    writer.close()


async def test_a_browser_that_vanishes_leaves_no_upstream_connection(stage: Stage) -> None:
    sockets = [await stage.connect() for _ in range(5)]
    await eventually_async(lambda: stage.workspace.open_sockets == 5)
    for socket in sockets:
        # There is no public way to break a connection without a word.
        connection = socket._conn
        assert connection is not None
        assert connection.transport is not None
        connection.transport.abort()
    await eventually_async(lambda: stage.workspace.open_sockets == 0)
    assert not stage.gateway.public.connections


async def test_a_workspace_that_vanishes_ends_the_browsers_socket(stage: Stage) -> None:
    socket = await stage.connect()
    upstream = stage.workspace.requests[-1].transport
    assert upstream is not None
    upstream.abort()
    assert (await socket.receive(timeout=20)).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE)
    await eventually_async(lambda: not stage.gateway.public.connections)


@pytest.mark.parametrize("origin", ["http://evil.example", "http://other.localhost:8000", "null", ""])
async def test_a_foreign_origin_is_refused(stage: Stage, origin: str) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await stage.session.ws_connect(stage.url("/ws"), headers=stage.headers(Origin=origin))
    assert caught.value.status == 403
    assert not stage.web.questions


async def test_a_token_needs_no_origin_and_is_not_passed_on(stage: Stage) -> None:
    headers = stage.headers(Cookie="", Authorization=f"Bearer {TOKEN}")
    socket = await stage.session.ws_connect(stage.url("/ws"), headers=headers)
    assert "Authorization" not in stage.workspace.requests[-1].headers
    await socket.close()


async def test_a_stranger_gets_a_problem_not_a_redirect(stage: Stage) -> None:
    origin = f"http://demo.localhost:{stage.port}"
    headers = stage.headers(Cookie="slipway_workspace=nobody", Origin=origin, Accept="text/html")
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await stage.session.ws_connect(stage.url("/ws"), headers=headers)
    assert caught.value.status == 401


async def test_a_refused_handshake_of_the_workspace_comes_through(stage: Stage) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await stage.session.ws_connect(
            stage.url("/status?code=418"), headers=stage.headers(Origin=f"http://demo.localhost:{stage.port}")
        )
    assert caught.value.status == 418


def frame(payload: bytes, *, opcode: int = 2, mask: bool = True) -> bytes:
    size = len(payload)
    marker = size if size < 126 else 126 if size < 65_536 else 127
    extended = b"" if size < 126 else size.to_bytes(2 if size < 65_536 else 8, "big")
    return bytes((0x80 | opcode, marker | (0x80 if mask else 0))) + extended + (b"abcd" if mask else b"") + payload


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 64, 100_000])
@pytest.mark.parametrize("mask", [True, False])
def test_frames_are_followed_however_they_are_cut(step: int, mask: bool) -> None:
    payloads = [b"", b"x", b"y" * 125, b"z" * 126, b"a" * 300, b"b" * 70_000]
    stream = b"".join(frame(p, mask=mask) + frame(b"ping" * 20, opcode=9, mask=mask) for p in payloads)
    tracker = FrameTracker()
    counted = sum(tracker.feed(stream[at : at + step]) for at in range(0, len(stream), step))
    assert counted == sum(map(len, payloads))
    assert tracker.between_frames
    tracker.feed(stream[:1])
    assert not tracker.between_frames


def test_close_frame_is_that_of_a_server() -> None:
    assert close_frame(1001, "bye") == b"\x88\x05\x03\xe9bye"
