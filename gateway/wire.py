"""A connection with flow control in both directions, shared by the client's side and the upstream's side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from typing_extensions import override

CHUNK = 65_536


class Wire(asyncio.Protocol):
    """Base of both sides; also the protocol that aiohttp's body reader pauses and resumes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.transport: asyncio.Transport | None = None
        self._writable: asyncio.Future[None] | None = None
        self._body_full = False
        self._held = False
        self._paused = False
        self.writing_paused = False
        self.on_writable: Callable[[], None] | None = None

    @property
    def connected(self) -> bool:
        """Whether the connection is up; aiohttp's body reader asks."""
        return self.transport is not None

    @property
    def closing(self) -> bool:
        """Whether it has ended, or is about to."""
        return self.transport is None or self.transport.is_closing()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._wake_writer()

    @override
    def pause_writing(self) -> None:
        self.writing_paused = True

    @override
    def resume_writing(self) -> None:
        self.writing_paused = False
        self._wake_writer()
        if self.on_writable is not None:
            self.on_writable()

    def _wake_writer(self) -> None:
        waiter, self._writable = self._writable, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def write(self, data: bytes) -> None:
        """Queue `data`; call `drain` before the next large piece.

        Raises:
            ConnectionResetError: the other side has gone.
        """
        if self.transport is None:
            raise ConnectionResetError("the connection is closed")
        self.transport.write(data)

    async def drain(self) -> None:
        """Wait until the other side has taken enough of what was written.

        Raises:
            ConnectionResetError: the other side has gone.
        """
        if self.writing_paused and self.transport is not None:
            if self._writable is None:
                self._writable = self.loop.create_future()
            await asyncio.shield(self._writable)
        if self.transport is None:
            raise ConnectionResetError("the connection is closed")

    def pause_reading(self) -> None:
        """Called by the body's reader when it holds enough."""
        self._body_full = True
        self._apply()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002  # aiohttp's.
        """Called by the body's reader when it has room again, and at the end of each body."""
        if self._body_full:
            self._body_full = False
            self._apply()

    def hold(self, *, hold: bool) -> None:
        """Stop or go on reading for a reason other than a full body."""
        self._held = hold
        self._apply()

    def _apply(self) -> None:
        pause = self._body_full or self._held
        if pause == self._paused or self.transport is None or self.transport.is_closing():
            return
        self._paused = pause
        if pause:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def close(self) -> None:
        """Send what is queued, then close."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close at once; what is queued is lost."""
        if self.transport is not None:
            self.transport.abort()
