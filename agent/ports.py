"""Makes ports of the workspace reachable: one Unix socket for each, which relays to the program that listens.

In a network that is shared with others only sockets held by this workspace's own processes count: ports of the host and
of other workspaces are never relayed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from agent import listeners, proctable
from agent.board import Board
from agent.listeners import Listener

LIMIT = 64
"""Ports at once; the lowest ones win."""

_INTERVAL = 1.0
# Sockets rarely change hands without one being opened or closed, so a full look may be rare too.
_FULL_LOOK_EVERY = 30
_CHUNK = 64 * 1024


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Copy until the end, at the pace of the slower side, and pass the end on."""
    try:
        while data := await source.read(_CHUNK):
            target.write(data)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()
    except OSError:
        # One side broke off: the other must not wait for it.
        target.transport.abort()


class Relay:
    """The Unix socket of one port."""

    def __init__(self, path: Path, listener: Listener, board: Board) -> None:
        self._path = path
        self._listener = listener
        self._board = board
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Start to listen. Who may connect is decided by the mode of the folder."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, str(self._path), limit=_CHUNK)
        self._path.chmod(0o666)

    async def close(self) -> None:
        """Stop to listen and break off what is open."""
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        try:
            await self._serve(reader, writer)
        except asyncio.CancelledError:
            # Only `close` cancels it, and waits for nothing but its end.
            return
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The port may have gone to somebody else since the last look.
        everything = listeners.listening()
        if self._listener not in everything:
            return
        connection = await self._connect(listeners.targets(self._listener, everything))
        if connection is None:
            return
        there, back = connection
        self._board.seen("ports")
        try:
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
            with contextlib.suppress(OSError):
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        finally:
            back.transport.abort()

    async def _connect(self, hosts: list[str]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for host in hosts:
            with contextlib.suppress(OSError):
                return await asyncio.open_connection(host, self._listener.port, limit=_CHUNK)
        return None


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
