"""Server-sent events (HTML standard, section 9.2): waking up when something may have happened, and writing frames.

The API's stream and the portal's live pages share this.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from threading import Lock
from typing import Any, ClassVar, ParamSpec, TypeVar
from weakref import WeakSet

import redis.exceptions
from asgiref.sync import SyncToAsync, sync_to_async
from django.db import close_old_connections
from django.http import HttpRequest, StreamingHttpResponse
from rest_framework.request import Request

from kernel import redis as bus
from kernel.errors import TooMany

# A comment keeps proxies from closing a quiet stream, and finds out that the client is gone.
KEEP_ALIVE_SECONDS = 15.0
# Without word from Redis the database is asked this often: slower, but nothing is missed.
LOOK_SECONDS = 2.0
# A stream ends after this time; the browser reconnects, and is authenticated again.
LONGEST_STREAM_SECONDS = 600.0
# Streams that one person may have open. Counted in each web process by itself: what a stream costs (a connection to
# Redis, a file or two) is that process's own, and no count is left behind when a process or Redis dies.
MOST_STREAMS = 50
# Few, because each holds a connection to the database while it reads.
_readers = ThreadPoolExecutor(max_workers=8, thread_name_prefix="live")

P = ParamSpec("P")
T = TypeVar("T")


class Wakeups:
    """Tells when something may have happened to a workspace (or, without one, to an owner's workspaces)."""

    def __init__(self, *, workspace: str | None = None, owner: int | None = None) -> None:
        self._key = "workspace" if workspace else "owner"
        self._value = workspace or owner
        self._client = bus.async_client()
        self._subscription = self._client.pubsub(ignore_subscribe_messages=True)
        self._subscribed = False

    async def wait(self, seconds: float) -> bool:
        """Wait for news, at most so long; False when there was none. While Redis is away this is a pause."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # The client has gone. Before Python 3.12 `asyncio.wait_for`, by which redis-py writes, may swallow that.
            raise asyncio.CancelledError
        try:
            if not self._subscribed:
                await self._subscription.subscribe(bus.EVENTS)
                self._subscribed = True
                return True
            while (left := deadline - loop.time()) > 0:
                message = await self._subscription.get_message(timeout=left)
                if message and json.loads(message["data"]).get(self._key) == self._value:
                    return True
        except (redis.exceptions.RedisError, OSError):
            self._subscribed = False
            await asyncio.sleep(max(0.0, min(LOOK_SECONDS, deadline - loop.time())))
            return True
        return False

    async def close(self) -> None:
        """Free the connection."""
        await self._subscription.aclose()  # type: ignore[no-untyped-call]  # Untyped in redis-py.
        await self._client.aclose()


async def look(read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Read from the database beside the event loop, and give the connection back: a stream lives for minutes, and a
    connection that it kept would be one that nobody else can have."""

    def read_and_release() -> T:
        try:
            return read(*args, **kwargs)
        finally:
            close_old_connections()

    return await sync_to_async(read_and_release, thread_sensitive=False, executor=_readers)()


async def _give_thread_back() -> None:
    """End the thread that Django keeps for this request, with its connection: a stream needs neither.

    Whatever is still to be done in such a thread, at the end of the request, gets a new one.
    """
    await sync_to_async(close_old_connections)()
    context = SyncToAsync.thread_sensitive_context.get(None)
    executor = SyncToAsync.context_to_thread_executor.pop(context, None) if context is not None else None
    if executor is not None:
        executor.shutdown(wait=False)


def event_frame(event: str, data: Any, number: int | str | None = None) -> bytes:
    """One server-sent event; `number` is what a client sends back as `Last-Event-ID`."""
    head = f"id: {number}\n" if number is not None else ""
    return f"{head}event: {event}\ndata: {json.dumps(data, default=str)}\n\n".encode()


class StreamResponse(StreamingHttpResponse):
    """The answer that carries a stream, and ends it with the request. An answer to HEAD ends at once.

    Django closes the iterator that it is given by leaving it to the garbage collector; what a stream holds open (a
    connection to Redis) must not wait for that. And it makes the body of an answer to HEAD: servers throw it away.

    Args:
        request: what is answered.
        user: primary key of who asks.
        frames: what is sent.

    Raises:
        TooMany: the user has `MOST_STREAMS` open in this process.
    """

    _open: ClassVar[WeakSet[StreamResponse]] = WeakSet()
    _opening: ClassVar[Lock] = Lock()

    def __init__(self, request: HttpRequest | Request, user: int, frames: AsyncGenerator[bytes]) -> None:
        super().__init__(
            frames,
            content_type="text/event-stream; charset=utf-8",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._frames = frames
        self._empty = request.method == "HEAD"
        self._user = user
        with self._opening:
            if sum(stream._user == user for stream in self._open) >= MOST_STREAMS:
                raise TooMany(
                    "too_many_streams",
                    f"You follow your workspaces {MOST_STREAMS} times at once already.",
                    "Close pages or programs that follow them, or wait: each stream ends within ten minutes.",
                    retry_after=30,
                )
            # Weakly, because Django closes no response that was made when the client had gone already.
            self._open.add(self)

    def close(self) -> None:
        """Django's end of the response: somebody else may have its place."""
        with self._opening:
            self._open.discard(self)
        super().close()

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        async with aclosing(self._frames) as frames:
            if self._empty:
                return
            await _give_thread_back()
            async for frame in frames:
                yield frame
