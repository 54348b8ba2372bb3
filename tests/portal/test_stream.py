"""Live pages: what changed, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient, RequestFactory
from django.utils.safestring import mark_safe

from accounts.models import User
from workspaces.live import StreamResponse
from workspaces.models import Workspace
from workspaces.portal.pictures import Picture, Query, list_picture
from workspaces.portal.stream import changes
from workspaces.services import intents

Factory = Callable[..., Workspace]
RENAMED = "Renamed <b>&amp;"


def picture(order: str = "a|b", **pieces: str) -> Picture:
    safe = {name: mark_safe(text) for name, text in pieces.items()}
    return Picture(safe, ("list", mark_safe("".join(pieces.values()))), order)


def parts(frames: list[bytes]) -> list[str]:
    return [json.loads(frame.decode().split("data: ")[1])["id"] for frame in frames]


def test_only_what_changed_is_sent() -> None:
    before, after = picture(a="1", b="2"), picture(a="1", b="3")
    assert parts(changes(before, after)) == ["b"]
    assert changes(after, picture(a="1", b="3")) == []


def test_another_order_draws_the_frame_anew() -> None:
    assert parts(changes(picture(a="1", b="2"), picture("b|a", b="2", a="1"))) == ["list"]
    assert parts(changes(None, picture(a="1"))) == ["list"]


def test_the_last_frame_names_the_picture() -> None:
    seen = Picture({"x": mark_safe("1"), "y": mark_safe("2")})
    frames = changes(None, seen)
    assert [frame.startswith(b"id: ") for frame in frames] == [False, True]
    assert f"id: {seen.digest}\n".encode() in frames[-1]


@pytest.fixture
async def browser(transactional_db: None, owner: User) -> AsyncClient:
    client = AsyncClient()
    await client.aforce_login(owner, backend="django.contrib.auth.backends.ModelBackend")
    return client


class Reader:
    """The frames of a stream, as they come."""

    def __init__(self, content: AsyncIterator[bytes]) -> None:
        self._content = content

    async def next(self) -> dict[str, Any]:
        """The next frame that carries something."""
        async with asyncio.timeout(10):
            async for frame in self._content:
                fields = dict(line.split(": ", 1) for line in frame.decode().strip().split("\n") if ": " in line)
                if "data" in fields:
                    return {**json.loads(fields["data"]), "digest": fields.get("id")}
        raise AssertionError("the stream ended")

    async def close(self) -> None:
        await self._content.aclose()  # type: ignore[attr-defined]  # It is a generator.


async def follow(client: AsyncClient, path: str, **headers: str) -> Reader:
    answer: Any = await client.get(path, headers=headers)
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"].startswith("text/event-stream")
    return Reader(aiter(answer))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("path", "piece"),
    [
        ("/live", "w-rocket-bcdfg"),
        ("/workspaces/rocket-bcdfg/live/detail", "detail_head"),
        ("/workspaces/rocket-bcdfg/live/start", "start_panel"),
        ("/workspaces/rocket-bcdfg/live/start?next=/x&port=3000", "start_panel"),
    ],
)
async def test_a_change_arrives_by_itself(
    browser: AsyncClient, owner: User, workspace_factory: Factory, path: str, piece: str
) -> None:
    workspace = await sync_to_async(workspace_factory)(owner, state="stopped", desired="stopped")
    reader = await follow(browser, path)
    first = await reader.next()
    while first["digest"] is None:
        first = await reader.next()
    await sync_to_async(intents.rename)(workspace, name="Renamed <b>&", actor=owner)
    while RENAMED.replace("<b>", "&lt;b&gt;") not in (news := await reader.next())["html"]:
        pass
    assert news["id"] == piece
    assert news["html"].count(f'id="{piece}"') == 1
    assert ("3000-rocket-bcdfg" in news["html"]) is path.endswith("port=3000")
    await reader.close()


@pytest.mark.django_db(transaction=True)
async def test_a_browser_that_is_up_to_date_gets_nothing_again(
    browser: AsyncClient, owner: User, workspace_factory: Factory
) -> None:
    workspace = await sync_to_async(workspace_factory)(owner, state="stopped")
    known = (await sync_to_async(list_picture)(owner, Query())).digest
    for name in ("Now one", "Now two"):
        # A page says in the address what it shows; a browser that reconnects says it in a header.
        headers = {"last-event-id": known} if name == "Now two" else {}
        reader = await follow(browser, "/live" if headers else f"/live?seen={known}", **headers)
        await sync_to_async(intents.rename)(workspace, name=name, actor=owner)
        news = await reader.next()
        assert name in news["html"]
        known = news["digest"]
        await reader.close()


@pytest.mark.django_db(transaction=True)
async def test_strangers_and_signed_out_browsers_get_no_stream(
    owner: User, outsider: User, workspace_factory: Factory
) -> None:
    await sync_to_async(workspace_factory)(owner, state="running")
    client = AsyncClient()
    assert (await client.get("/live")).status_code == 401
    assert (await client.get("/workspaces/rocket-bcdfg/live/start")).status_code == 401
    await client.aforce_login(outsider, backend="django.contrib.auth.backends.ModelBackend")
    assert (await client.get("/workspaces/rocket-bcdfg/live/detail")).status_code == 404
    reader = await follow(client, "/live")
    assert "rocket" not in (await reader.next())["html"]
    await reader.close()


@pytest.mark.django_db(transaction=True)
async def test_nonsense_in_a_stream_s_address_is_survived(browser: AsyncClient) -> None:
    for query in ("q=%00&after=%00", "seen=" + "x" * 5000, "after=2026-01-01T00:00:00%2B00:00_x", "q=" + "💥" * 300):
        reader = await follow(browser, f"/live?{query}")
        assert (await reader.next())["digest"]
        await reader.close()


async def test_a_stream_ends_with_its_answer() -> None:
    ended = False

    async def frames() -> AsyncGenerator[bytes]:
        nonlocal ended
        try:
            yield b"one"
            yield b"two"
        finally:
            # What a stream holds is freed by steps that take their time.
            await asyncio.sleep(0)
            ended = True

    content = aiter(StreamResponse(RequestFactory().get("/live"), 1, frames()))
    assert await anext(content) == b"one"
    await content.aclose()
    assert ended
