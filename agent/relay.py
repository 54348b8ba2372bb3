"""Ties two connections together: what one receives the other sends, at the pace of the slower, and so with its end."""

from __future__ import annotations

import asyncio
from typing import cast


class Side(asyncio.Protocol):
    """One of two connections. It reads nothing until it is joined to the other.

    Args:
        among: the sides that are open; this one is among them for as long as its connection lasts.
    """

    def __init__(self, among: set[Side]) -> None:
        self._among = among
        self._transport: asyncio.Transport | None = None
        self._other: Side | None = None
        self._at_end = False
        self._early = b""

    def join(self, other: Side) -> None:
        """From now on each sends what the other receives. Where one has gone meanwhile, so has the other."""
        self._other, other._other = other, self
        for side in (self, other):
            if side._transport is None:
                side._give_up()
                return
        for side in (self, other):
            side._pass_on()
            side._hold(hold=False)

    def send(self, data: bytes) -> None:
        """Send bytes to this side's peer; nothing happens where it has gone."""
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """Send what is queued, then close."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once; what is queued is lost."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.pause_reading()
        self._among.add(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._other is not None:
            self._other.send(data)
            return
        # Python 3.11.2 forgets the pause of `connection_made` in the round after it, and holds to a new one only when
        # the old one was ended.
        self._early += data
        self._hold(hold=False)
        self._hold(hold=True)

    def eof_received(self) -> bool:
        """The peer has sent its last byte, and may still want to read."""
        self._at_end = True
        other = self._other
        if other is None or other._at_end:
            self.close()
            if other is not None:
                other.close()
        else:
            other._end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._transport = None
        self._among.discard(self)
        self._give_up()

    def pause_writing(self) -> None:
        """The peer is slow: take no more from the other."""
        if self._other is not None:
            self._other._hold(hold=True)

    def resume_writing(self) -> None:
        """The peer has caught up."""
        if self._other is not None:
            self._other._hold(hold=False)

    def _pass_on(self) -> None:
        """Send on what came before there was another side."""
        early, self._early = self._early, b""
        if early and self._other is not None:
            self._other.send(early)

    def _hold(self, *, hold: bool) -> None:
        if self._transport is None:
            return
        if hold:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _end(self) -> None:
        """Tell the peer that nothing more comes."""
        if self._transport is not None:
            try:
                self._transport.write_eof()
            except OSError:
                # It has gone, which the transport has not noticed yet.
                self.abort()

    def _give_up(self) -> None:
        """This side is over. Unless both have come to their end, what the other has to say interests nobody."""
        other = self._other
        if other is not None and not (self._at_end and other._at_end):
            other.abort()


async def break_off(sides: set[Side]) -> None:
    """Close all of them at once."""
    for side in tuple(sides):
        side.abort()
    # Sockets are closed in the loop's next round.
    await asyncio.sleep(0)
