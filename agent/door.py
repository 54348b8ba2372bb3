"""The way in for a gateway on another machine: a TCP port behind which the workspace's own Unix sockets stand.

A connection begins with one line, `SLIPWAY/1 <key> <name>`, where the name is `ide` or `port/<number>`. `OK` on a line
of its own means that from then on the connection is one to that socket; `NO` that nobody listens there. Whoever does
not know the key is told nothing.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import hmac
import re
import resource
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from agent.logs import Log
from agent.problems import Problem
from agent.relay import Side, break_off

LINE_LIMIT = 256
"""Bytes of the first line, with its end."""
MOST_ARRIVALS = 64
"""Connections at once that have not shown the key yet."""
MOST = 1024
"""Connections at once."""

_GREETING = b"SLIPWAY/1"
_IMPROPER = "no proper line"
_PORT = re.compile(rb"port/([1-9][0-9]{0,4})")
_TELL_SECONDS = 60.0
# The gateway says its line at once. Where all places are taken by others, that is the time they have as well.
_PATIENCE = 0.25
_ACCEPT_PAUSE = 0.1
# A connection to a port has two descriptors here and two at the port's relay; some are for everything else.
_DESCRIPTORS = 4 * MOST + 512
# A gateway whose machine is gone says no goodbye: asked for a sign of life after a minute, given up after two.
_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 20, "TCP_KEEPCNT": 3}


class Refused(Exception):
    """Somebody is to be turned away; says why, in words of ours alone."""


class Door:
    """Listens, and lets in whoever has the key.

    Args:
        key: the secret that the gateway shows.
        run_dir: where the sockets are. What the workspace's code puts there in their place reaches no further than it
            does itself.
        log: told who was turned away, never what they said.
        line_seconds: how long a connection may take to say its first line.
    """

    def __init__(self, key: str, run_dir: Path, log: Log, *, line_seconds: float) -> None:
        self._key = key.encode()
        self._run_dir = run_dir
        self._log = log
        self._line_seconds = line_seconds
        self._refusals = Refusals(log)
        self._listener: socket.socket | None = None
        self._arrivals: set[_Arrival] = set()
        self._fewer_arrivals = asyncio.Event()
        self._visitors: set[Side] = set()
        self._sockets: set[Side] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, address: tuple[str, int]) -> None:
        """Listen.

        Args:
            address: IP address and port; `::` takes IPv4 as well, and port 0 is any, which the log tells.

        Raises:
            Problem: `door_without_key`, `door_unusable`.
        """
        if not self._key:
            raise Problem(
                "door_without_key",
                "The workspace was given no key for its door, so nobody could be let in.",
                "Restart the workspace; if that does not help, tell the operator of the platform.",
            )
        try:
            self._listener = _listen(address)
        except OSError as error:
            raise Problem(
                "door_unusable",
                f"The workspace's door could not be opened on port {address[1]}: {error.strerror}.",
                "Restart the workspace; if that does not help, tell the operator of the platform.",
            ) from error
        host, port, *_ = self._listener.getsockname()
        self._log.write("agent", f"The door is open at {host} port {port}.", event="door_open")

    async def run(self) -> None:
        """Let connections in until cancelled; call `open` first."""
        loop = asyncio.get_running_loop()
        assert self._listener is not None  # noqa: S101 - `open` sets it; this tells the type checker so.
        while True:
            await self._room()
            try:
                connection, _ = await loop.sock_accept(self._listener)
                if len(self._arrivals) + len(self._visitors) < MOST:
                    await loop.connect_accepted_socket(lambda: _Arrival(self, self._line_seconds), connection)
                else:
                    connection.close()
                    self._refusals.count("too many")
                    # Where others wait to be accepted, nothing above gives way to the rest of the workspace.
                    await asyncio.sleep(0)
            except OSError:
                # The peer has gone, or there are no descriptors left; neither is a reason to stop.
                self._refusals.count("not accepted")
                await asyncio.sleep(_ACCEPT_PAUSE)

    async def _room(self) -> None:
        """Wait for a place among the arrivals. Where nobody leaves for a moment, all of them have to."""
        while len(self._arrivals) >= MOST_ARRIVALS:
            self._fewer_arrivals.clear()
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._fewer_arrivals.wait()
            except TimeoutError:
                for arrival in tuple(self._arrivals):
                    arrival.turn_away("too many")

    async def close(self) -> None:
        """Stop to listen and break off what is open."""
        if self._listener is not None:
            self._listener.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for arrival in tuple(self._arrivals):
            arrival.transport.abort()
        await break_off(self._visitors | self._sockets)
        self._refusals.tell()

    def arrived(self, arrival: _Arrival) -> None:
        """A connection was made, and has not shown the key yet."""
        self._arrivals.add(arrival)

    def left(self, arrival: _Arrival, refused: str) -> None:
        """An arrival has shown the key or has gone; `refused` says why it was turned away, if it was."""
        self._arrivals.discard(arrival)
        self._fewer_arrivals.set()
        if refused:
            self._refusals.count(refused)

    def name_in(self, line: bytes) -> bytes:
        """The name that the line asks for.

        Raises:
            Refused: it is no line of ours, or the key is another one.
        """
        parts = line.split(b" ")
        if len(parts) != 3 or parts[0] != _GREETING:
            raise Refused(_IMPROPER)
        if not hmac.compare_digest(parts[1], self._key):
            raise Refused("wrong key")
        return parts[2]

    def let_in(self, transport: asyncio.Transport, name: bytes, rest: bytes) -> None:
        """Connect somebody who knows the key with what they ask for; `rest` came after their line."""
        visitor = Side(self._visitors)
        transport.set_protocol(visitor)
        visitor.connection_made(transport)
        task = asyncio.create_task(self._connect(visitor, name, rest))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, visitor: Side, name: bytes, rest: bytes) -> None:
        loop = asyncio.get_running_loop()
        try:
            connection = _reach(self._path(name))
            _, there = await loop.create_unix_connection(lambda: Side(self._sockets), sock=connection)
        except OSError:
            visitor.send(b"NO\n")
            visitor.close()
            return
        visitor.send(b"OK\n")
        visitor.join(there)
        there.send(rest)

    def _path(self, name: bytes) -> Path:
        """The socket of this name.

        Raises:
            FileNotFoundError: there are none of such a name.
        """
        if name == b"ide":
            return self._run_dir / "ide.sock"
        found = _PORT.fullmatch(name)
        if found is None:
            raise FileNotFoundError
        return self._run_dir / "ports" / f"{int(found[1])}.sock"


class _Arrival(asyncio.Protocol):
    """A connection that has not shown the key yet."""

    def __init__(self, door: Door, seconds: float) -> None:
        self._door = door
        self._seconds = seconds
        self._said = bytearray()
        self._refused = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self.transport = cast("asyncio.Transport", transport)
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self.turn_away, "too slow")
        self._door.arrived(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._said += data
        line, end, rest = bytes(self._said).partition(b"\n")
        if len(line) + len(end or b"\n") > LINE_LIMIT:
            self.turn_away(_IMPROPER)
        elif end:
            self._show(line, rest)

    def _show(self, line: bytes, rest: bytes) -> None:
        try:
            name = self._door.name_in(line)
        except Refused as refused:
            self.turn_away(str(refused))
            return
        self._timer.cancel()
        self._door.left(self, "")
        self._door.let_in(self.transport, name, rest)

    def eof_received(self) -> None:
        """See asyncio. Whoever only looked whether somebody listens, as probes do, is none to tell of."""
        if self._said:
            self._refused = _IMPROPER

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._timer.cancel()
        self._door.left(self, self._refused)

    def turn_away(self, reason: str) -> None:
        """Close without a word."""
        self._refused = reason
        self.transport.abort()


class Refusals:
    """Counts who was turned away and says so at most once a minute: strangers must not fill the log.

    Args:
        clock: seconds that only ever grow.
    """

    def __init__(self, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._untold: collections.Counter[str] = collections.Counter()
        self._next = 0.0

    def count(self, reason: str) -> None:
        """One more, for one of a few fixed reasons."""
        self._untold[reason] += 1
        if self._clock() >= self._next:
            self.tell()

    def tell(self) -> None:
        """Say what has not been said yet."""
        if self._untold:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self._untold.items()))
            text = f"Turned away at the door: {reasons}."
            self._log.write("agent", text, level="warning", event="door_refused")
            self._untold.clear()
            self._next = self._clock() + _TELL_SECONDS


def _listen(address: tuple[str, int]) -> socket.socket:
    """A listening socket; what is set on it holds for each connection that it accepts (Linux).

    Raises:
        OSError: the address cannot be used.
    """
    host, port = address
    both = host == "::" and socket.has_dualstack_ipv6()
    if host == "::" and not both:
        host = "0.0.0.0"  # noqa: S104 - a machine without IPv6, and a door for all addresses.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    _allow_descriptors()
    listener = socket.create_server((host, port), family=family, backlog=MOST, dualstack_ipv6=both)
    listener.setblocking(False)  # noqa: FBT003 - the standard library's.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _ALIVE.items():
        listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return listener


def _allow_descriptors() -> None:
    """Raise the soft limit of open files, which is 1024 in many places, as far as needed and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _DESCRIPTORS:
        wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _reach(path: Path) -> socket.socket:
    """A connection to a Unix socket, which is made or refused without waiting.

    Raises:
        OSError: nobody listens, or more wait there than it has room for.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)  # noqa: FBT003 - the standard library's.
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection
