"""Relays an upgraded connection byte by byte.

Compression was left out of the handshake, so frames need not be taken apart: any size passes, and close frames with
their codes do too. When the browser goes, the upstream connection is dropped hard, because a polite close leaves it
open in code-server for minutes.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.downstream import Downstream
from gateway.frames import FrameTracker, close_frame
from gateway.metrics import SocketMeter
from gateway.upstream import Upstream
from gateway.wire import Wire

_FLUSH_SECONDS = 1.0
_COUNT_BYTES = 65_536


class Tunnel:
    """The relay between one client and one upstream.

    Args:
        client: browser's side, whose handshake has been answered.
        server: upstream's side, which has answered 101.
        meter: counts bytes and open sockets.
        on_input: called with the number of message bytes the client sent.
    """

    def __init__(
        self, client: Downstream, server: Upstream, meter: SocketMeter, on_input: Callable[[int], None] | None
    ) -> None:
        self._client = client
        self._server = server
        self._meter = meter
        self._on_input = on_input
        self._from_client = FrameTracker()
        self._from_server = FrameTracker()
        self._over = False
        self._sent = 0
        self._received = 0

    def start(self) -> None:
        """Connect both sides; the bytes that came with the handshakes go first."""
        self._meter.opened()
        client, server = self._client, self._server
        server.on_lost = self._server_lost
        client.on_writable = lambda: server.hold(hold=False)
        server.on_writable = lambda: client.hold(hold=False)
        server.sink = self._to_client
        tail, server.tail = server.tail, b""
        if tail:
            self._to_client(tail)
        if not client.writing_paused:
            server.hold(hold=False)
        client.take_over(self._to_server, self)
        if server.transport is None:
            self._server_lost()

    def _to_client(self, data: bytes) -> None:
        self._from_server.feed(data)
        self._sent += len(data)
        if self._sent > _COUNT_BYTES:
            self._count()
        transport = self._client.transport
        if transport is not None:
            transport.write(data)
            if self._client.writing_paused:
                self._server.hold(hold=True)

    def _to_server(self, data: bytes) -> None:
        counted = self._from_client.feed(data)
        self._received += len(data)
        if counted and self._on_input is not None:
            self._on_input(counted)
        transport = self._server.transport
        if transport is not None:
            transport.write(data)
            if self._server.writing_paused:
                self._client.hold(hold=True)

    def _count(self) -> None:
        """Pass the sums on; a call for each frame would cost more than the relay itself."""
        self._meter.relayed(self._received, self._sent)
        self._received = self._sent = 0

    def _server_lost(self) -> None:
        """The upstream has ended: what it said last still goes out."""
        self._finish(self._client)

    def client_lost(self) -> None:
        """The browser has gone: drop the upstream."""
        self._finish(self._server)
        if not self._over:
            self._over = True
            self._count()
            self._meter.closed()

    def cut(self, code: int, reason: str) -> None:
        """Close from here, with a close frame where the stream allows one."""
        if self._client.transport is not None and self._from_server.between_frames:
            self._client.transport.write(close_frame(code, reason))
        self._server.abort()
        self._finish(self._client)

    @staticmethod
    def _finish(side: Wire) -> None:
        """Close at once when nothing is queued; else give the queue a moment."""
        transport = side.transport
        if transport is None:
            return
        if transport.get_write_buffer_size() == 0:
            side.abort()
            return
        transport.close()
        side.loop.call_later(_FLUSH_SECONDS, side.abort)
