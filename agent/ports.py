"""Makes ports of the workspace reachable: one Unix socket for each, which relays to the program that listens.

In a network that is shared with others only sockets held by this workspace's own processes count: ports of the host and
of other workspaces are never relayed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from agent import listeners, proctable
from agent.board import Board
from agent.listeners import Listener
from agent.relay import Side, break_off

LIMIT = 64
"""Ports at once; the lowest ones win."""

_INTERVAL = 1.0
# Sockets rarely change hands without one being opened or closed, so a full look may be rare too.
_FULL_LOOK_EVERY = 30
_BACKLOG = 1024


class Relay:
    """The Unix socket of one port."""

    def __init__(self, path: Path, listener: Listener, board: Board) -> None:
        self._path = path
        self._listener = listener
        self._board = board
        self._server: asyncio.Server | None = None
        self._sides: set[Side] = set()
        self._joining: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Start to listen. Who may connect is decided by the mode of the folder."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: _Arrival(self._sides, self._arrived), str(self._path), backlog=_BACKLOG
        )
        self._path.chmod(0o666)

    async def close(self) -> None:
        """Stop to listen and break off what is open."""
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)
        for task in tuple(self._joining):
            task.cancel()
        await asyncio.gather(*self._joining, return_exceptions=True)
        await break_off(self._sides)

    def _arrived(self, side: Side) -> None:
        task = asyncio.create_task(self._serve(side))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    async def _serve(self, side: Side) -> None:
        try:
            there = await self._connect()
        except OSError:
            side.abort()
            return
        self._board.seen("ports")
        side.join(there)

    async def _connect(self) -> Side:
        """A connection to the program.

        Raises:
            OSError: it does not accept one, or the port has gone to somebody else since the last look.
        """
        everything = listeners.listening()
        hosts = listeners.targets(self._listener, everything) if self._listener in everything else []
        loop = asyncio.get_running_loop()
        for host in hosts:
            with contextlib.suppress(OSError):
                return (await loop.create_connection(lambda: Side(self._sides), host, self._listener.port))[1]
        raise ConnectionRefusedError(f"nobody listens on port {self._listener.port}")


class _Arrival(Side):
    """A connection to the Unix socket."""

    def __init__(self, among: set[Side], arrived: Callable[[Side], None]) -> None:
        super().__init__(among)
        self._arrived = arrived

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        super().connection_made(transport)
        self._arrived(self)


class Ports:
    """Keeps the relays in step with what is listened on."""

    def __init__(self, folder: Path, marker: str, board: Board) -> None:
        self._folder = folder
        self._marker = marker
        self._board = board
        self._relays: dict[Listener, Relay] = {}
        self._seen: frozenset[Listener] | None = None

    async def run(self) -> None:
        """Look every second."""
        self._folder.mkdir(parents=True, exist_ok=True)
        look = 0
        while True:
            await self._look(full=look % _FULL_LOOK_EVERY == 0)
            look += 1
            await asyncio.sleep(_INTERVAL)

    async def close(self) -> None:
        """Close all relays."""
        await self._apply({})

    async def _look(self, *, full: bool) -> None:
        seen = listeners.listening()
        if seen == self._seen and not full:
            return
        self._seen = seen
        await self._apply(await asyncio.to_thread(self._wanted, seen))

    def _wanted(self, seen: frozenset[Listener]) -> dict[int, Listener]:
        """The listener for each port of ours; IPv4 where there are two."""
        inodes = listeners.inodes_of(proctable.owned(os.getpid(), self._marker)) if seen else set()
        ours = sorted(
            (item for item in seen if item.inode in inodes), key=lambda item: (item.port, ":" in item.address)
        )
        wanted: dict[int, Listener] = {}
        for listener in ours:
            if len(wanted) < LIMIT:
                wanted.setdefault(listener.port, listener)
        return wanted

    async def _apply(self, wanted: dict[int, Listener]) -> None:
        for listener in self._relays.keys() - set(wanted.values()):
            await self._relays.pop(listener).close()
        for listener in set(wanted.values()) - self._relays.keys():
            relay = Relay(self._folder / f"{listener.port}.sock", listener, self._board)
            await relay.open()
            self._relays[listener] = relay
        self._board.set_ports(sorted(listener.port for listener in self._relays))
