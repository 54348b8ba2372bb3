"""The upstream's side: connections to workspaces and to web, kept for reuse."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpResponseParser, RawResponseMessage
from aiohttp.streams import StreamReader
from typing_extensions import override

from gateway import door
from gateway.sockets import pinned
from gateway.wire import CHUNK, Wire

_FIELD_BYTES = 65_536
# Below the keep-alive time of node (5 s) and uvicorn (5 s), so that it is this side that gives a connection up.
_REUSE_SECONDS = 3.0
_IDLE_PER_ADDRESS = 64
# SO_LINGER, on and with no time to linger (socket(7)).
_RESET = struct.pack("ii", 1, 0)


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """Where an upstream listens.

    Args:
        url: `unix:/path`, `http://host:port`, or `tcp://host:port` of an agent's door.
        depth: for sockets in a folder of a workspace, how many last components of the path it controls; 0 for ours.
        name: what to ask the door for.
        key: opens the door; a secret of one run.
    """

    url: str
    depth: int = 0
    name: str = ""
    key: str = dataclasses.field(default="", repr=False)


class Gone(ConnectionError):
    """The upstream closed the connection before it answered."""


class Upstream(Wire):
    """One connection to an upstream."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.sink: Callable[[bytes], None] | None = None
        self.on_lost: Callable[[], None] | None = None
        self.tail = b""
        self.reused = False
        self.remote = False
        self.idle_since = 0.0
        self._expecting = False
        self._head_request = False
        self._body: StreamReader | None = None
        self._answer: asyncio.Future[tuple[RawResponseMessage, StreamReader]] | None = None
        self._spoiled = False
        self._parser = self._new_parser(body=True)

    def _new_parser(self, *, body: bool) -> HttpResponseParser:
        return HttpResponseParser(
            cast("Any", self), self.loop, CHUNK, max_line_size=_FIELD_BYTES, max_field_size=_FIELD_BYTES,
            response_with_body=body, read_until_eof=True, auto_decompress=False,
        )  # fmt: skip

    def ask(self, head: bytes, *, head_request: bool) -> asyncio.Future[tuple[RawResponseMessage, StreamReader]]:
        """Send a request's head (and what follows it); the result is the response's head and its body's reader.

        Args:
            head: bytes to send.
            head_request: whether the method is HEAD, whose responses have no body.

        Raises:
            ConnectionResetError: the connection is closed already.
        """
        if head_request != self._head_request:
            self._head_request = head_request
            self._parser = self._new_parser(body=not head_request)
        self._answer = self.loop.create_future()
        self._expecting = True
        self.write(head)
        return self._answer

    @override
    def data_received(self, data: bytes) -> None:
        if self.sink is not None:
            self.sink(data)
            return
        if not self._expecting and (self._body is None or self._body.is_eof()):
            # Nobody asked: what a later request would take for its answer must not be kept.
            self._spoiled = True
            self.abort()
            return
        try:
            messages, upgraded, tail = self._parser.feed_data(data)
        except HttpProcessingError as error:
            self._fail(Gone(f"malformed response: {error.message}"))
            self.abort()
            return
        for message, body in messages:
            self._deliver(message, body)
        if upgraded:
            self.tail += tail
            self.hold(hold=True)

    def _deliver(self, message: RawResponseMessage, body: StreamReader) -> None:
        if 100 <= message.code < 200 and message.code != 101:
            return
        if not self._expecting:
            self._spoiled = True
            return
        self._expecting = False
        self._body = body
        if self._head_request and message.code not in (204, 304) and "Content-Length" not in message.headers:
            # It may be making a body all the same, for as long as that takes, and read no request until then.
            self._spoiled = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((message, body))

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.sink is None:
            self._end_body(exc)
        self._fail(Gone("the upstream closed the connection"))
        if self.on_lost is not None:
            self.on_lost()

    @override
    def abort(self) -> None:
        """Close at once; what is queued is lost.

        Across a network that is a reset. A door takes anything milder for the end of what this side has to say, and
        keeps open what stands behind it.
        """
        if self.remote and self.transport is not None and not self.transport.is_closing():
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        super().abort()

    def _end_body(self, exc: Exception | None) -> None:
        if self._body is None or self._body.is_eof():
            return
        if exc is not None:
            self._body.set_exception(Gone(str(exc)))
            return
        try:
            # Ends a body that is delimited by the end of the connection, and complains about any other.
            self._parser.feed_eof()
        except HttpProcessingError as error:
            self._body.set_exception(Gone(error.message))

    def _fail(self, error: Gone) -> None:
        self._expecting = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        if self._body is not None and not self._body.is_eof() and self._body.exception() is None:
            self._body.set_exception(error)

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent: everything was read, nothing else came, and it is open."""
        return (
            self.transport is not None
            and not self.transport.is_closing()
            and not self._expecting
            and not self._spoiled
            and (self._body is None or self._body.is_eof())
        )


class Pool:
    """Open connections by address.

    Args:
        connect_seconds: how long connecting may take.
    """

    def __init__(self, connect_seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._connect_seconds = connect_seconds
        self._idle: dict[Address, deque[Upstream]] = {}

    async def acquire(self, address: Address, *, fresh: bool = False) -> Upstream:
        """A connection for one request; give it back with `release`.

        Args:
            address: where to.
            fresh: never reuse; for WebSockets, and for a second try.

        Raises:
            OSError: nothing accepts connections there, or its door stays shut.
            TimeoutError: connecting took too long.
        """
        if not fresh:
            idle = self._idle.get(address)
            oldest = self._loop.time() - _REUSE_SECONDS
            while idle:
                connection = idle.pop()
                if connection.reusable and connection.idle_since > oldest:
                    connection.reused = True
                    return connection
                connection.abort()
        async with asyncio.timeout(self._connect_seconds):
            return await self._connect(address)

    async def _connect(self, address: Address) -> Upstream:
        def factory() -> Upstream:
            return Upstream(self._loop)

        if address.url.startswith(door.SCHEME):
            upstream = (await self._loop.create_connection(factory, *door.target(address.url)))[1]
            upstream.remote = True
            await door.enter(upstream, address)
            return upstream
        if not address.url.startswith("unix:"):
            parts = urlsplit(address.url)
            return (await self._loop.create_connection(factory, parts.hostname or "", parts.port or 80))[1]
        path = address.url.removeprefix("unix:")
        if not address.depth:
            return (await self._loop.create_unix_connection(factory, path))[1]
        with pinned(path, depth=address.depth) as checked:
            return (await self._loop.create_unix_connection(factory, checked))[1]

    def release(self, address: Address, connection: Upstream) -> None:
        """Take a connection back: kept if it may be reused, else closed at once."""
        if not connection.reusable:
            connection.abort()
            return
        idle = self._idle.setdefault(address, deque())
        if len(idle) >= _IDLE_PER_ADDRESS:
            connection.abort()
            return
        connection.idle_since = self._loop.time()
        idle.append(connection)

    def sweep(self) -> None:
        """Close connections that nobody used for a while, and forget addresses without any."""
        oldest = self._loop.time() - _REUSE_SECONDS
        for address, idle in list(self._idle.items()):
            while idle and (idle[0].idle_since < oldest or not idle[0].reusable):
                idle.popleft().abort()
            if not idle:
                del self._idle[address]

    def close(self) -> None:
        """Close everything that is idle."""
        for idle in self._idle.values():
            for connection in idle:
                connection.abort()
        self._idle.clear()
