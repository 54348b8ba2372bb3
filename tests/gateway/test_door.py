"""Workspaces on other machines: through a door, by its key and no other way."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from gateway import metrics
from gateway.access import Key
from gateway.upstream import Address
from tests.gateway.stage import MEGA, OWNER, Stage, staged, still
from tests.support.door import KEY, DoorServer
from tests.support.waiting import eventually_async

PORT = "3000-demo.localhost"


@pytest.fixture
async def door(stage: Stage) -> AsyncIterator[DoorServer]:
    """The stage's workspace, behind a door."""
    async with DoorServer(stage.folder / "run").listening() as server:
        stage.web.upstream = server.upstream
        yield server


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_editor_and_ports_are_reached_by_name_and_connections_used_again(stage: Stage, host: str) -> None:
    async with DoorServer(stage.folder / "run").listening(host) as door:
        stage.web.upstream = door.upstream
        for _ in range(2):
            status, _, body = await stage.ask("/a?b=1")
            assert (status, body["who"], body["path"]) == (200, "workspace", "/a?b=1")
            status, _, body = await stage.ask("/p", headers=stage.headers(PORT))
            assert (status, body["path"]) == (200, "/p")
        # What is idle stays with the name that it was opened for.
        assert door.lines == [f"SLIPWAY/1 {KEY} ide", f"SLIPWAY/1 {KEY} port/3000"]


async def test_a_websocket_passes_both_ways_and_keeps_its_close_code(stage: Stage, door: DoorServer) -> None:
    socket = await stage.connect()
    data = os.urandom(8 * MEGA)
    await socket.send_bytes(data)
    assert (await socket.receive_bytes(timeout=20)) == data
    await socket.send_str("bye")
    message = await socket.receive(timeout=5)
    assert (message.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 4321)
    assert door.lines == [f"SLIPWAY/1 {KEY} ide"]
    await eventually_async(lambda: door.open == 0)


async def test_an_upload_is_whole(stage: Stage, door: DoorServer) -> None:
    data = os.urandom(16 * MEGA)
    status, _, body = await stage.ask("/up", method="POST", data=io.BytesIO(data))
    assert (status, body["length"], body["digest"]) == (200, len(data), hashlib.sha256(data).hexdigest())


async def test_a_download_waits_for_a_slow_reader(stage: Stage, door: DoorServer) -> None:
    async with stage.session.get(stage.url("/big?mega=64"), headers=stage.headers()) as answer:
        await eventually_async(still(lambda: stage.workspace.received))
        assert stage.workspace.received < 48 * MEGA
        assert len(await answer.read()) == 64 * MEGA


@pytest.mark.parametrize("websocket", [True, False])
async def test_a_browser_that_vanishes_tears_the_connection_away(
    stage: Stage, door: DoorServer, websocket: bool
) -> None:
    # A polite end would be one direction's alone, and leave open what stands behind the door.
    held: Any
    if websocket:
        held = await stage.connect()
        connection = held._conn
    else:
        held = await stage.session.get(stage.url("/sse"), headers=stage.headers())
        connection = held.connection
    assert connection is not None
    assert connection.transport is not None
    connection.transport.abort()
    await eventually_async(lambda: door.open == 0)
    assert door.resets == 1


def shut(door: DoorServer) -> None:
    door.close()


def answers(data: bytes) -> Callable[[DoorServer], None]:
    return lambda door: setattr(door, "answer", data)


def another_key(door: DoorServer) -> None:
    door.key = "sld_of-another-run"


def nobody(door: DoorServer) -> None:
    door.folder = door.folder / "nobody"


@pytest.mark.parametrize(
    "fault",
    [nobody, another_key, shut, *map(answers, (
        b"NO\n", b"N", b"\n", b"O", b"OK", b"OK\r\n", b"ok\n", b"OKAY\n", b"HTTP/1.1 200 OK\r\n\r\n",
        b"OK\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine",
    ))],
)  # fmt: skip
async def test_a_door_that_stays_shut_is_a_workspace_that_does_not_listen(
    stage: Stage, door: DoorServer, fault: Callable[[DoorServer], None]
) -> None:
    fault(door)
    status, _, page = await stage.ask(headers=stage.page())
    assert status == 502
    assert b"The editor does not answer" in page
    status, _, page = await stage.ask(headers=stage.page(PORT))
    assert status == 502
    assert b"Nothing listens on port 3000 yet" in page
    assert (await stage.ask(headers=stage.headers(PORT)))[2]["code"] == "port_silent"
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await stage.connect()
    assert caught.value.status == 502
    await eventually_async(lambda: door.open == 0)


async def test_a_silent_door_is_not_waited_for_for_ever(short_folder: Path) -> None:
    async with (
        staged(short_folder, connect_seconds=0.3) as stage,
        DoorServer(stage.folder / "run").listening() as door,
    ):
        door.stays = True
        stage.web.upstream = door.upstream
        status, _, problem = await stage.ask()
        assert (status, problem["code"]) == (502, "ide_unreachable")
        assert door.lines == [f"SLIPWAY/1 {KEY} ide"]
        await eventually_async(lambda: door.open == 0)


@pytest.mark.parametrize(
    ("answer", "stays"), [(b"", False), (b"O", False), (b"NO\n", True), (b"OKAY", True), (b"OK\nmore", True)]
)
async def test_a_refusal_is_known_at_once(short_folder: Path, answer: bytes, stays: bool) -> None:
    async with (
        staged(short_folder, connect_seconds=3600) as stage,
        DoorServer(stage.folder / "run").listening() as door,
    ):
        door.stays, door.answer = stays, answer
        stage.web.upstream = door.upstream | {"key": "sld_of-another-run"}
        assert (await stage.ask())[2]["code"] == "ide_unreachable"
        await eventually_async(lambda: door.open == 0)


async def test_a_connection_is_not_used_for_another_run(stage: Stage, door: DoorServer) -> None:
    stage.web.ttl = 0
    assert (await stage.ask())[0] == 200
    # The same pod address, but the agent of a later run stands behind it.
    door.key = "sld_of-the-next-run"
    stage.web.upstream = door.upstream
    assert (await stage.ask())[0] == 200
    assert door.lines == [f"SLIPWAY/1 {KEY} ide", "SLIPWAY/1 sld_of-the-next-run ide"]


def test_an_address_is_one_of_place_name_and_key() -> None:
    address = Address("tcp://[::1]:7411", name="ide", key=KEY)
    assert dataclasses.replace(address, url="tcp://[::1]:7412") != address
    assert dataclasses.replace(address, name="port/3000") != address
    assert dataclasses.replace(address, key=f"{KEY}x") != address
    assert dataclasses.replace(address) == address


@pytest.mark.parametrize(
    "change",
    [
        {"key": ""},
        {"key": None},
        {"key": "with space"},
        {"key": "with\nline"},
        {"key": "schlüssel"},
        {"key": "k" * 201},
        *({"ide": url} for url in (
            "tcp://127.0.0.1", "tcp://127.0.0.1:0", "tcp://127.0.0.1:65536", "tcp://:7411", "tcp://127.0.0.1:x",
            "tcp://[::1:7411", "tcp://a@127.0.0.1:7411", "tcp://127.0.0.1:7411/x", "tcp://127.0.0.1:7411?x",
        )),
    ],
)  # fmt: skip
async def test_an_address_that_makes_no_sense_is_not_dialled(
    stage: Stage, door: DoorServer, change: dict[str, Any]
) -> None:
    stage.web.upstream = door.upstream | change
    status, _, problem = await stage.ask()
    assert (status, problem["code"]) == (503, "starting")
    assert not door.lines


async def test_the_key_is_told_to_the_door_alone(stage: Stage, door: DoorServer) -> None:
    with capture_logs() as logs:
        assert (await stage.ask("/x"))[0] == 200
        door.answer = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        assert (await stage.ask(headers=stage.headers(PORT)))[0] == 502
        stage.web.upstream = door.upstream | {"ide": "tcp://nowhere"}
        stage.web.ttl = 0
        stage.gateway.authorizer.revoke("all", "")
        assert (await stage.ask())[0] == 503
    stage.web.upstream = door.upstream
    access = await stage.gateway.authorizer.get(Key("demo", None, bearer=False, credential=OWNER), wake=False)
    address = access.grant.address(3000)
    assert address.key == access.grant.key == KEY
    told = [repr(access), repr(access.grant), repr(address), repr(logs), generate_latest(metrics.REGISTRY).decode()]
    assert not [text for text in told if KEY in text]
    seen = [*stage.workspace.requests[0].headers.items(), *stage.web.paths]
    assert KEY not in repr(seen)
