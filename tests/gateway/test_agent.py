"""The gateway with a real agent on the other side of a network: its reports, and the way in through its door."""

from __future__ import annotations

import asyncio
import io
import json
import select
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.agent.harness import Agent
from tests.gateway.stage import MEGA, OWNER, Stage, served
from tests.support.door import KEY
from tests.support.git_http import GitServer
from tests.support.waiting import eventually_async


@pytest.fixture
async def agent(stage: Stage, tmp_path: Path) -> AsyncIterator[Agent]:
    """An agent with an open door that reports to the gateway, and whose workspace is the one on the stage."""
    instance = Agent(tmp_path / "workspace")
    try:
        with GitServer(tmp_path / "git") as server:
            instance.has_door(KEY, "[::]:0")
            instance.env["SLIPWAY_PLATFORM"] = f"http://{stage.gateway.remote_agents.address}"
            instance.start(server.create_repository("app", {"a.txt": "x"}))
            await eventually_async(lambda: editor(stage) == "done")
            url = f"tcp://127.0.0.1:{instance.door_port()}"
            stage.web.upstream = {"ide": url, "ports": url, "key": KEY}
            yield instance
    finally:
        instance.close()


def editor(stage: Stage) -> str:
    """How the editor stands, as it was reported last."""
    if not stage.web.reports:
        return ""
    report = json.loads(stage.web.reports[-1]["body"])
    return next(str(item["status"]) for item in report["conditions"] if item["type"] == "ide")


async def test_what_an_agent_reports_and_what_it_lets_in(stage: Stage, agent: Agent) -> None:
    assert {report["headers"]["Authorization"] for report in stage.web.reports} == {"Bearer token-1"}
    status, _, body = await stage.ask("/?folder=x", headers=stage.page())
    assert (status, body) == (200, b"editor")
    async with served(stage.workspace.app(), agent.run_dir / "ports" / "4000.sock"):
        headers = stage.headers("4000-demo.localhost")
        status, _, answer = await stage.ask("/up", method="POST", headers=headers, data=io.BytesIO(b"z" * 8 * MEGA))
        assert (status, answer["length"]) == (200, 8 * MEGA)
        headers["Origin"] = f"http://4000-demo.localhost:{stage.port}"
        ws = await stage.session.ws_connect(stage.url("/ws"), headers=headers, max_msg_size=0)
        await ws.send_bytes(b"y" * 8 * MEGA)
        assert await ws.receive_bytes(timeout=20) == b"y" * 8 * MEGA
        await ws.close()
    assert (await stage.ask(headers=stage.headers("4001-demo.localhost")))[2]["code"] == "port_silent"


async def test_the_key_of_another_run_opens_nothing(stage: Stage, agent: Agent) -> None:
    assert stage.web.upstream is not None
    stage.web.upstream = stage.web.upstream | {"key": KEY[:-1]}
    assert (await stage.ask())[2]["code"] == "ide_unreachable"


async def test_a_browser_that_vanishes_leaves_nothing_open_in_the_workspace(stage: Stage, agent: Agent) -> None:
    loop = asyncio.get_running_loop()
    path = agent.run_dir / "ports" / "4000.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.setblocking(False)
        head = "GET /ws HTTP/1.1\r\nHost: 4000-demo.localhost\r\nOrigin: http://4000-demo.localhost\r\n"
        head += f"Cookie: slipway_workspace={OWNER}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        reader, writer = await stage.raw(head.encode())
        program, _ = await asyncio.wait_for(loop.sock_accept(listener), 20)
        with program:
            assert (await loop.sock_recv(program, 65_536)).startswith(b"GET /ws ")
            answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            await loop.sock_sendall(program, answer)
            assert b"101" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            assert not hung_up(program)
            writer.transport.abort()
            # From here on the program says and reads nothing, as one that waits for its browser to come back.
            await eventually_async(lambda: hung_up(program))


def hung_up(connection: socket.socket) -> bool:
    """Whether the other end is closed altogether, and not for one direction alone."""
    poll = select.poll()
    poll.register(connection, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))
