"""Events as they happen: server-sent events that a client can resume."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.http import StreamingHttpResponse
from django.test import AsyncClient
from django.utils import timezone

from accounts.models import User
from tests.support.portal import SLUG, Portal
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually
from workspaces.live import MOST_STREAMS, Wakeups
from workspaces.models import Event, Workspace
from workspaces.services import intents

pytestmark = pytest.mark.django_db(transaction=True)
Factory = Callable[..., Workspace]


class Reader:
    """Takes frames from a stream, apart from comments."""

    def __init__(self, response: StreamingHttpResponse) -> None:
        self._parts = aiter(response)

    async def frame(self) -> dict[str, str]:
        while True:
            text = (await asyncio.wait_for(anext(self._parts), 10)).decode()
            fields = dict(line.split(": ", 1) for line in text.strip().splitlines() if not line.startswith(":"))
            if "event" in fields:
                return fields

    async def close(self) -> None:
        await cast("Any", self._parts).aclose()


@asynccontextmanager
async def _stream(workspace: Workspace, headers: dict[str, str], **extra: str) -> AsyncIterator[Reader]:
    named = {"Accept": "text/event-stream", **headers, **extra}
    response = await AsyncClient().get(f"/api/v1/workspaces/{workspace.pk}/events", headers=named)
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/event-stream")
    reader = Reader(cast("StreamingHttpResponse", response))
    try:
        yield reader
    finally:
        await reader.close()
        await sync_to_async(connections.close_all)()


async def test_history_then_the_present_then_what_happens(
    owner: User, bearer: Callable[..., dict[str, str]], workspace_factory: Factory
) -> None:
    workspace = await sync_to_async(workspace_factory)(owner, state="stopped", desired="stopped")
    await sync_to_async(intents.start)(workspace, actor=owner, now=timezone.now())
    headers = await sync_to_async(bearer)(owner)
    async with _stream(workspace, headers) as reader:
        first = await reader.frame()
        assert (first["event"], json.loads(first["data"])["target"]) == ("event", "running")
        present = await reader.frame()
        assert (present["event"], json.loads(present["data"])["desired"]) == ("workspace", "running")
        await sync_to_async(intents.stop)(workspace, actor=owner, now=timezone.now())
        second = await reader.frame()
        assert json.loads(second["data"])["target"] == "stopped"
        assert int(second["id"]) > int(first["id"])
    async with _stream(workspace, headers, **{"Last-Event-ID": first["id"]}) as reader:
        assert await reader.frame() == second


async def test_what_happens_while_redis_is_away_is_seen_all_the_same(
    owner: User, bearer: Callable[..., dict[str, str]], workspace_factory: Factory, valkey: ValkeyServer
) -> None:
    workspace = await sync_to_async(workspace_factory)(owner, state="stopped", desired="stopped")
    headers = await sync_to_async(bearer)(owner)
    async with _stream(workspace, headers) as reader:
        assert (await reader.frame())["event"] == "workspace"
        valkey.stop()
        try:
            await sync_to_async(intents.start)(workspace, actor=owner, now=timezone.now())
            assert json.loads((await reader.frame())["data"])["target"] == "running"
        finally:
            valkey.start()


async def test_somebody_elses_stream_is_not_there(
    owner: User, outsider: User, bearer: Callable[..., dict[str, str]], workspace_factory: Factory
) -> None:
    workspace = await sync_to_async(workspace_factory)(owner)
    headers = {**await sync_to_async(bearer)(outsider), "Accept": "text/event-stream"}
    response = await AsyncClient().get(f"/api/v1/workspaces/{workspace.pk}/events", headers=headers)
    assert response.status_code == 404
    assert response["Content-Type"] == "application/problem+json"
    assert json.loads(response.content)["code"] == "workspace_not_found"
    assert not await Event.objects.aexists()
    await sync_to_async(connections.close_all)()


async def test_a_stream_ends_though_a_library_swallowed_that_it_should(owner: User) -> None:
    wakeups = Wakeups(owner=owner.pk)
    begun = asyncio.Event()

    async def follow() -> None:
        await wakeups.wait(60)
        begun.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await wakeups.wait(60)

    task = asyncio.create_task(follow())
    async with asyncio.timeout(10):
        await begun.wait()
    task.cancel()
    ended, _ = await asyncio.wait({task}, timeout=5)
    assert ended
    assert task.cancelled()
    await wakeups.close()


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    """A real server: Django's test client ends an answer in its own way."""
    with Portal() as running:
        running.stage("rows")
        yield running


@pytest.mark.parametrize("path", [f"/workspaces/{SLUG}/live/detail", "/live", "/api/v1/workspaces/{id}/events"])
def test_head_is_answered_and_done(portal: Portal, path: str) -> None:
    headers = {"Accept": "text/event-stream", **portal.bearer("owner"), "Cookie": portal.cookie("owner")}
    with closing(http.client.HTTPConnection("127.0.0.1", portal.port, timeout=5)) as connection:
        connection.request("HEAD", path.format(id=portal.workspaces("owner")[0]["id"]), headers=headers)
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.read() == b""
        # The server is free for what comes next on this connection.
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200


def _ask(portal: Portal, path: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """The head of an answer to the owner's program and browser."""
    headers = {"Accept": "text/event-stream", **portal.bearer("owner"), "Cookie": portal.cookie("owner")}
    connection = http.client.HTTPConnection("127.0.0.1", portal.port, timeout=10)
    connection.request("GET", path, headers=headers)
    return connection, connection.getresponse()


def _streams(portal: Portal) -> tuple[str, str]:
    return "/live", f"/api/v1/workspaces/{portal.workspaces('owner')[0]['id']}/events"


@contextmanager
def _opened(portal: Portal, number: int) -> Iterator[list[http.client.HTTPConnection]]:
    """Streams of the owner's, by turns of a browser and of a program, whose first frame has come."""
    connections: list[http.client.HTTPConnection] = []

    def opens(path: str) -> bool:
        connection, answer = _ask(portal, path)
        if answer.status != 200:
            # Those of the test before this one are still being closed.
            connection.close()
            return False
        connections.append(connection)
        return answer.readline() == b"retry: 1000\n"

    paths = _streams(portal)
    try:
        for count in range(number):
            eventually(partial(opens, paths[count % 2]), timeout=10, what="a stream opens")
        yield connections
    finally:
        for connection in connections:
            connection.close()


def _threads(portal: Portal) -> int:
    return len(list(Path(f"/proc/{portal.pid}/task").iterdir()))


def _handles(portal: Portal, name: str) -> list[str]:
    """Open files of the server whose path ends so."""
    found = []
    for handle in Path(f"/proc/{portal.pid}/fd").iterdir():
        with suppress(OSError):
            found.append(str(handle.readlink()))
    return [path for path in found if path.endswith(name)]


def test_a_quiet_stream_holds_neither_a_thread_nor_the_database(portal: Portal) -> None:
    before = _threads(portal)
    with _opened(portal, 30):
        eventually(lambda: _threads(portal) < before + 15, timeout=10, what="threads are given back")
        eventually(lambda: not _handles(portal, ".sqlite3"), timeout=10, what="the database is let go")


def test_a_person_has_a_limit_of_streams(portal: Portal) -> None:
    def status() -> int:
        connection, answer = _ask(portal, "/live")
        connection.close()
        return answer.status

    with _opened(portal, MOST_STREAMS) as connections:
        for path in _streams(portal):
            connection, answer = _ask(portal, path)
            with closing(connection):
                problem = json.load(answer)
            assert (answer.status, problem["code"]) == (429, "too_many_streams")
            assert "Close" in problem["next_step"]
            assert answer.headers["Retry-After"]
        connections[0].close()
        eventually(lambda: status() == 200, timeout=10, what="there is room for another")
