"""The client's side: parses requests with aiohttp's parser and hands them, one after the other, to a handler."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

import structlog
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.streams import StreamReader
from typing_extensions import override

from gateway.pages import Reply, plain
from gateway.sockets import NOBODY, user_of
from gateway.wire import CHUNK, Wire

if TYPE_CHECKING:
    from gateway.access import Access
    from gateway.listener import Listener

log = structlog.get_logger()

_FIELD_BYTES = 16_384
_QUEUE = 8
_LINGER_SECONDS = 2.0
_NEVER = float("inf")


class Cuttable(Protocol):
    """A relay that can be ended from outside because access was lost or the gateway stops."""

    def client_lost(self) -> None:
        """The client's connection has ended."""

    def cut(self, code: int, reason: str) -> None:
        """End it; `code` is a WebSocket close code (RFC 6455, section 7.4.1)."""


@dataclasses.dataclass(slots=True)
class Request:
    """One request as the parser understood it.

    Args:
        message: method, headers and version.
        body: reader of the body; at its end at once when there is none.
        target: path with query, as sent.
        host: value of the Host header, or of the authority in an absolute target (RFC 9112, section 3.2.2).
    """

    message: RawRequestMessage
    body: StreamReader
    target: str
    host: str

    @property
    def method(self) -> str:
        """Upper case, as sent."""
        return self.message.method

    @property
    def websocket(self) -> bool:
        """Whether this asks for a WebSocket."""
        headers = self.message.headers
        return bool(self.message.upgrade) and headers.get("Upgrade", "").lower() == "websocket"

    @property
    def page(self) -> bool:
        """Whether this is a person's page load, which may be answered by a redirect."""
        message = self.message
        return (
            message.method in ("GET", "HEAD")
            and not message.upgrade
            and "text/html" in message.headers.get("Accept", "")
        )


Handler = Callable[["Downstream", Request], Awaitable[None]]


class Downstream(Wire):
    """One client connection.

    Args:
        listener: the listener that accepted it.
    """

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener.loop)
        self.listener = listener
        self.peer = ""
        self.user = NOBODY
        self.access: Access | None = None
        self.tunnel: Cuttable | None = None
        self.sink: Callable[[bytes], None] | None = None
        self.deadline = _NEVER
        self.busy = False
        self.replied = False
        self.keep_alive = True
        self._head_only = False
        self._queue: deque[tuple[RawRequestMessage, StreamReader] | Reply] = deque()
        self._body: StreamReader | None = None
        self._upgraded = False
        self._tail = b""
        self._head_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._parser = HttpRequestParser(
            cast("Any", self), self.loop, CHUNK, max_line_size=_FIELD_BYTES, max_field_size=_FIELD_BYTES,
            auto_decompress=False, max_msg_queue_size=_QUEUE,
        )  # fmt: skip

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        self.user = user_of(transport)
        if not self.listener.admit(self):
            self.abort()
            return
        self.deadline = self.loop.time() + self.listener.config.header_seconds
        self._task = self.loop.create_task(self._serve())

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.listener.forget(self)
        if self._body is not None and not self._body.is_eof():
            self._body.set_exception(ConnectionResetError("the client has gone"))
        if self.tunnel is not None:
            self.tunnel.client_lost()
        if self._task is not None:
            self._task.cancel()

    @override
    def data_received(self, data: bytes) -> None:
        if self.sink is not None:
            self.sink(data)
        elif self._upgraded:
            self._tail += data
            self.hold(hold=True)
        else:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        in_body = self._body is not None and not self._body.is_eof()
        try:
            messages, self._upgraded, self._tail = self._parser.feed_data(data)
        except HttpProcessingError as error:
            self._refuse(400 if not isinstance(error, LineTooLong) else 431)
            return
        if messages:
            self._head_bytes = 0
            self._queue.extend(messages)
            self._body = messages[-1][1]
            if len(self._queue) >= _QUEUE:
                self.hold(hold=True)
            self._wake()
        elif not in_body:
            self._count_head(len(data))

    def _count_head(self, size: int) -> None:
        """Bound a head in bytes and in time: the clock starts with its first byte and is not put back."""
        if not self._head_bytes and not self.busy:
            self.deadline = self.loop.time() + self.listener.config.header_seconds
        self._head_bytes += size
        if self._head_bytes > self.listener.config.max_header_bytes:
            self._refuse(431)

    def _refuse(self, status: int) -> None:
        """Answer what cannot be parsed after the requests before it, and read no further."""
        if self._body is not None and not self._body.is_eof():
            self._body.set_exception(ValueError("the request's body is malformed"))
        self._queue.append(plain(status))
        self.sink = _discard
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _serve(self) -> None:
        try:
            while await self._one():
                pass
            await self._linger()
        except ConnectionError:
            self.abort()
        except Exception:
            # The boundary of one connection: whatever goes wrong in it must not end the process.
            log.exception("request_failed")
            self._apologise()

    async def _one(self) -> bool:
        """Answer one request; False when the connection is to be closed."""
        if not self._queue:
            self._waiter = self.loop.create_future()
            await self._waiter
        self.busy, self.deadline, self.replied = True, _NEVER, False
        item = self._queue.popleft()
        if isinstance(item, Reply):
            self.keep_alive, self._head_only = False, False
            self.reply(item)
            return False
        message, body = item
        self._head_only = message.method == "HEAD"
        self.keep_alive = not message.should_close and not self.listener.draining
        host, target = _where(message)
        await self.listener.handler(self, Request(message, body, target, host))
        if self.tunnel is not None:
            return await self._tunnelled()
        self.busy, self.access = False, None
        if not self.keep_alive or not body.is_eof() or self._upgraded:
            return False
        self._next()
        return self.connected

    def _next(self) -> None:
        """Get ready for the following request on this connection."""
        self._parser.message_consumed()
        self.deadline = self.loop.time() + self.listener.config.idle_seconds
        if self._held and len(self._queue) < _QUEUE:
            self.hold(hold=False)
            self._parse(b"")

    async def _tunnelled(self) -> bool:
        """Stay until the connection is lost, which cancels this."""
        await self.loop.create_future()
        return False

    async def _linger(self) -> None:
        """Close so that an answer is not lost to a reset while the client still sends (RFC 9112, section 9.6)."""
        malformed = self.sink is _discard
        self.sink = _discard
        # Nobody will make room in the body's reader, so it must not hold up what is read only to be forgotten.
        self.resume_reading()
        self.hold(hold=False)
        if not malformed and (self._body is None or self._body.is_eof()):
            self.close()
        elif self.transport is not None and self.transport.can_write_eof():
            self.transport.write_eof()
        self.deadline = self.loop.time() + _LINGER_SECONDS

    def _apologise(self) -> None:
        if self.replied:
            self.abort()
        elif self.connected:
            self.keep_alive = False
            self.reply(plain(500))
            self.close()

    def reply(self, reply: Reply) -> None:
        """Send an answer of the gateway's own; one to HEAD goes without its body (RFC 9110, section 9.3.2)."""
        self.replied = True
        if self.connected:
            self.write(reply.encode(keep_alive=self.keep_alive, head_only=self._head_only))

    def take_over(self, sink: Callable[[bytes], None], tunnel: Cuttable) -> None:
        """Give all further bytes to `sink`, those first that came with the handshake."""
        self.tunnel, self.sink = tunnel, sink
        tail, self._tail = self._tail, b""
        if tail:
            sink(tail)
        self.hold(hold=False)

    def cut(self, code: int, reason: str) -> None:
        """End what goes on here because access was lost or the gateway stops."""
        if self.tunnel is not None:
            self.tunnel.cut(code, reason)
        else:
            self.abort()


def _where(message: RawRequestMessage) -> tuple[str, str]:
    target = message.path
    if target.startswith("/") or message.url.raw_host is None:
        return message.headers.get("Host", ""), target
    return message.url.raw_authority, message.url.raw_path_qs


def _discard(data: bytes) -> None:
    """Read and forget."""
