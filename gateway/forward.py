"""Carries one request to an upstream and its answer back, streaming both ways."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

import structlog
from aiohttp.http_parser import RawResponseMessage
from aiohttp.http_writer import HttpVersion11
from aiohttp.streams import StreamReader

from gateway import forwarded, headers, intake
from gateway.config import Config
from gateway.cookies import CookieRules
from gateway.downstream import Downstream, Request
from gateway.metrics import meter, upstream_errors
from gateway.pages import UPSTREAM_BROKE, Reply, plain
from gateway.tunnel import Tunnel
from gateway.upstream import Address, Gone, Pool, Upstream

log = structlog.get_logger()

# RFC 9110, section 9.2.2: these may be sent again when a connection broke before an answer.
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
_EMPTY = (204, 304)


class Unreachable(Exception):
    """Nothing accepts connections at the address; the client has been told nothing yet."""


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes and under which rules.

    Args:
        kind: label for metrics.
        address: the upstream.
        cookies: rules for upstreams that run the user's code; None for web.
        whole: whether the body is taken in whole, within the limits for web, before the upstream hears of the request.
        host: replaces the Host header where set.
        on_answer: called when the upstream has begun to answer.
        on_input: called with the size of messages that the client sends over a WebSocket.
    """

    kind: str
    address: Address
    cookies: CookieRules | None = None
    whole: bool = False
    host: str = ""
    on_answer: Callable[[], None] | None = None
    on_input: Callable[[int], None] | None = None


class Forwarder:
    """Forwards requests.

    Args:
        config: settings.
        pool: connections to upstreams.
    """

    def __init__(self, config: Config, pool: Pool) -> None:
        self._config = config
        self._pool = pool

    async def forward(self, client: Downstream, request: Request, route: Route) -> None:
        """Forward a request and answer the client.

        Raises:
            Unreachable: there is no upstream; the client is still waiting.
            ConnectionError: the client has gone, or was cut off because the answer broke in the middle.
        """
        started = client.loop.time()
        exchange = _Exchange(self._config, self._pool, client, request, route)
        status = 0
        try:
            status = await exchange.run()
        finally:
            meter(route.kind).answered(status, client.loop.time() - started, exchange.received, exchange.sent)

    async def listens(self, address: Address) -> bool:
        """Whether something accepts connections there."""
        try:
            upstream = await self._pool.acquire(address)
        except OSError:
            return False
        self._pool.release(address, upstream)
        return True


class _Exchange:
    """One request and its answer."""

    def __init__(self, config: Config, pool: Pool, client: Downstream, request: Request, route: Route) -> None:
        self._config = config
        self._pool = pool
        self._client = client
        self._request = request
        self._route = route
        self._pump: asyncio.Task[None] | None = None
        self._content: bytes | None = None
        self._stalled = False
        self.received = 0
        self.sent = 0

    async def run(self) -> int:
        """Do it; returns the status that the client got."""
        if self._route.whole:
            try:
                self._content = await intake.whole(self._client, self._request, self._config)
            except intake.Refused as refused:
                return self._refuse(refused.reply)
        upstream = await self._connect(fresh=self._request.websocket)
        try:
            try:
                message, body = await self._ask(upstream)
            except ConnectionError:
                if not upstream.reused or self._pump is not None or self._request.method not in _REPEATABLE:
                    raise
                # The upstream gave the idle connection up in the very moment it was used.
                upstream = await self._connect(fresh=True)
                message, body = await self._ask(upstream)
            if self._route.on_answer is not None:
                self._route.on_answer()
            if message.code == 101:
                return self._switch(upstream, message)
            return await self._answer(message, body)
        except Gone as error:
            return self._broke(error)
        finally:
            self._give_back(upstream)

    async def _connect(self, *, fresh: bool) -> Upstream:
        try:
            return await self._pool.acquire(self._route.address, fresh=fresh)
        except OSError as error:
            upstream_errors.labels(self._route.kind, "connect").inc()
            raise Unreachable(str(error)) from error

    def _give_back(self, upstream: Upstream) -> None:
        if self._client.tunnel is not None:
            return
        if self._pump is not None and (not self._pump.done() or self._pump.cancelled() or self._pump.exception()):
            self._pump.cancel()
            upstream.abort()
            return
        self._pool.release(self._route.address, upstream)

    async def _ask(self, upstream: Upstream) -> tuple[RawResponseMessage, StreamReader]:
        request = self._request
        body = request.body
        complete = body.is_eof()
        content = self._content if self._content is not None else (body.read_nowait() if complete else b"")
        self._content = content
        self.received = len(content)
        answer = upstream.ask(self._head(content, complete=complete) + content, head_request=request.method == "HEAD")
        if not complete:
            if request.message.headers.get("Expect"):
                self._client.write(intake.CONTINUE)
            self._pump = self._client.loop.create_task(self._send_body(upstream))
        return await answer

    def _head(self, content: bytes, *, complete: bool) -> bytes:
        request, message = self._request, self._request.message
        route = self._route
        hop = headers.connection_options(message.headers.get("Connection", ""))
        lines = headers.request_fields(message.raw_headers, hop=hop, cookies=route.cookies)
        lines += forwarded.fields(self._client, request, self._config)
        if request.websocket:
            lines = headers.websocket_fields(lines)
        elif message.chunked and not complete:
            lines.append(b"Transfer-Encoding: chunked")
        elif message.chunked:
            lines.append(b"Content-Length: %d" % len(content))
        elif "Content-Length" in message.headers:
            lines.append(b"Content-Length: " + message.headers["Content-Length"].encode("ascii"))
        first = f"{message.method} {request.target} HTTP/1.1\r\nHost: {route.host or request.host}"
        return headers.head(first.encode("utf-8", "surrogateescape"), lines)

    async def _send_body(self, upstream: Upstream) -> None:
        """Stream the client's body; if it breaks, the upstream must not take what it has for the whole."""
        chunked = self._request.message.chunked
        idle_seconds = self._config.idle_seconds
        try:
            while chunk := await intake.piece(self._client, self._request, idle_seconds):
                self.received += len(chunk)
                upstream.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
                await upstream.drain()
            if chunked:
                upstream.write(b"0\r\n\r\n")
        except TimeoutError:
            self._stalled = True
            upstream.abort()
        except (ConnectionError, ValueError):
            if self._request.body.exception() is not None:
                upstream.abort()
            raise

    async def _answer(self, message: RawResponseMessage, body: StreamReader) -> int:
        client = self._client
        if self._pump is not None and not self._pump.done():
            # Answered before the body was read: this connection cannot be used for another request.
            client.keep_alive = False
        framing, chunked = self._framing(message)
        lines = headers.response_fields(
            message.raw_headers, connection=message.headers.get("Connection", ""), cookies=self._route.cookies
        )
        lines.append(framing)
        if not client.keep_alive:
            lines.append(b"Connection: close")
        lines = [line for line in lines if line]
        head = headers.head(headers.status_line(message.code, message.reason), lines)
        client.replied = True
        if self._request.method == "HEAD" or message.code in _EMPTY:
            client.write(head)
            return message.code
        await self._stream(head, body, chunked=chunked)
        return message.code

    def _framing(self, message: RawResponseMessage) -> tuple[bytes, bool]:
        """The line that says where the answer ends (empty for none), and whether it is sent in chunks."""
        length = message.headers.get("Content-Length")
        if message.code == 204:
            return b"", False
        if length is not None and not message.chunked:
            return b"Content-Length: " + length.encode("ascii", "replace"), False
        if self._request.method == "HEAD" or message.code == 304:
            return b"", False
        if self._request.message.version == HttpVersion11:
            return b"Transfer-Encoding: chunked", True
        self._client.keep_alive = False
        return b"", False

    async def _stream(self, head: bytes, body: StreamReader, *, chunked: bool) -> None:
        """Pass the body on as it comes; a part that came with the head goes out with it."""
        client = self._client
        chunk = body.read_nowait()
        pending = head
        while True:
            if chunk:
                self.sent += len(chunk)
                pending += b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk
            ended = body.at_eof()
            if ended and chunked:
                pending += b"0\r\n\r\n"
            if pending:
                client.write(pending)
                pending = b""
            if ended:
                return
            await client.drain()
            chunk = await body.readany()

    def _switch(self, upstream: Upstream, message: RawResponseMessage) -> int:
        client = self._client
        if not self._request.websocket:
            raise Gone("101 without being asked")
        lines = headers.websocket_fields(
            headers.response_fields(message.raw_headers, connection="", cookies=self._route.cookies)
        )
        client.replied = True
        client.write(headers.head(headers.status_line(101, "Switching Protocols"), lines))
        Tunnel(client, upstream, meter(self._route.kind).sockets, self._route.on_input).start()
        return 101

    def _broke(self, error: Gone) -> int:
        """The upstream failed: tell the client if it has heard nothing yet, else cut it off."""
        client = self._client
        if client.replied:
            upstream_errors.labels(self._route.kind, "broke").inc()
            raise ConnectionResetError(str(error)) from error
        if self._stalled:
            return self._refuse(intake.too_slow(self._request))
        if isinstance(self._request.body.exception(), ValueError):
            return self._refuse(plain(400))
        upstream_errors.labels(self._route.kind, "broke").inc()
        log.info("upstream_broke", kind=self._route.kind, error=str(error))
        client.reply(UPSTREAM_BROKE.reply(page=self._request.page))
        return 502

    def _refuse(self, reply: Reply) -> int:
        """Answer a request whose body is not read to its end, so that nothing can follow on this connection."""
        self._client.keep_alive = False
        self._client.reply(reply)
        return reply.status
