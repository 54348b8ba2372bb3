"""How a gateway ends: no request is lost, and sockets are told."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import aiohttp
import pytest

from tests.gateway.process import running, until
from tests.gateway.stage import staged
from tests.support.waiting import eventually_async


async def test_drain_finishes_requests_and_tells_websockets_to_go(short_folder: Path) -> None:
    async with running(short_folder, "--drain-seconds", "100") as gateway, aiohttp.ClientSession() as session:
        assert await gateway.ready() == 200
        editor = await session.ws_connect(gateway.url("/ws"), headers=gateway.headers)
        gateway.events.put_nowait(b"first,")
        stream = await session.get(gateway.url("/sse"), headers=gateway.headers)
        assert await stream.content.readuntil(b",") == b"first,"
        gateway.process.send_signal(signal.SIGTERM)
        await until(gateway.unready)
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(gateway.url("/"), headers=gateway.headers)
        await editor.send_str("still open")
        assert await editor.receive_str(timeout=20) == "still open"
        for piece in (b"second", b""):
            gateway.events.put_nowait(piece)
        assert await asyncio.wait_for(stream.read(), 20) == b"second"
        message = await editor.receive(timeout=20)
        assert (message.type, editor.close_code) == (aiohttp.WSMsgType.CLOSE, 1001)
        assert await asyncio.wait_for(gateway.process.wait(), 30) == 0
        assert not (short_folder / "admin.sock").exists()


async def test_drain_lets_websockets_go_on_and_closes_them_one_after_the_other(short_folder: Path) -> None:
    flags = ("--drain-seconds", "1", "--drain-socket-seconds", "6")
    async with running(short_folder, *flags) as gateway, aiohttp.ClientSession() as session:
        editors = [await session.ws_connect(gateway.url("/ws"), headers=gateway.headers) for _ in range(6)]
        gateway.process.send_signal(signal.SIGTERM)
        await until(gateway.unready)
        for editor in editors:
            await editor.send_str("still open")
            assert await editor.receive_str(timeout=20) == "still open"

        async def end(editor: aiohttp.ClientWebSocketResponse) -> float:
            message = await editor.receive(timeout=20)
            assert (message.type, editor.close_code) == (aiohttp.WSMsgType.CLOSE, 1001)
            return asyncio.get_running_loop().time()

        ends = sorted(await asyncio.gather(*map(end, editors)))
        assert ends[-1] - ends[0] > 1, "not all at once"
        assert await asyncio.wait_for(gateway.process.wait(), 30) == 0


async def test_drain_answers_once_more_on_a_connection_that_was_kept(short_folder: Path) -> None:
    flags = ("--drain-seconds", "100", "--drain-idle-seconds", "100")
    async with running(short_folder, *flags) as gateway, aiohttp.ClientSession() as session:
        for wanted in ("keep-alive", "close"):
            async with session.get(gateway.url("/"), headers=gateway.headers) as answer:
                assert answer.status == 200
                assert answer.headers.get("Connection", "keep-alive").lower() == wanted
            if wanted == "keep-alive":
                gateway.process.send_signal(signal.SIGTERM)
                await until(gateway.unready)
        assert await asyncio.wait_for(gateway.process.wait(), 30) == 0


async def test_drain_does_not_wait_for_ever(short_folder: Path) -> None:
    async with running(short_folder, "--drain-seconds", "0.2") as gateway, aiohttp.ClientSession() as session:
        gateway.events.put_nowait(b"first,")
        stream = await session.get(gateway.url("/sse"), headers=gateway.headers)
        await stream.content.readuntil(b",")
        gateway.process.send_signal(signal.SIGTERM)
        # Less than the ten seconds that it would take by itself.
        assert await asyncio.wait_for(gateway.process.wait(), 9) == 0
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.read()


async def test_a_second_signal_ends_it_at_once(short_folder: Path) -> None:
    async with running(short_folder, "--drain-seconds", "100") as gateway, aiohttp.ClientSession() as session:
        gateway.events.put_nowait(b"first,")
        stream = await session.get(gateway.url("/sse"), headers=gateway.headers)
        await stream.content.readuntil(b",")
        gateway.process.send_signal(signal.SIGTERM)
        await until(gateway.unready)
        gateway.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(gateway.process.wait(), 30) == 1
        stream.close()


async def test_a_drain_lets_a_report_end_and_takes_no_other(short_folder: Path) -> None:
    async with staged(short_folder) as stage:
        host, _, port = stage.gateway.remote_agents.address.rpartition(":")
        stage.web.hold = asyncio.Event()
        async with stage.agent("network") as session:
            report = asyncio.create_task(session.post("/internal/agent/report", data=b"r"))
            await eventually_async(lambda: stage.web.paths)
            drain = asyncio.create_task(stage.gateway.drain())
            await eventually_async(lambda: stage.gateway.draining)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(host, int(port))
            assert not drain.done()
            stage.web.hold.set()
            async with await report as answer:
                assert answer.status == 200
            await asyncio.wait_for(drain, 5)
