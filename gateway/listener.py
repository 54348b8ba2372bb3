"""A listening socket with its connections: admission, time limits and drain."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from pathlib import Path

from gateway.config import Config
from gateway.downstream import Downstream, Handler
from gateway.sockets import NOBODY, watch_peers

_SWEEP_SECONDS = 1.0


class Listener:
    """Accepts connections and keeps account of them.

    Args:
        config: limits.
        handler: answers each request.
        most: how many connections may be open; `max_connections` when None.
        most_per_user: how many of them one account of the machine may have on a Unix socket, other than the gateway's
            own; None for all.
    """

    def __init__(
        self, config: Config, handler: Handler, *, most: int | None = None, most_per_user: int | None = None
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.config = config
        self.handler = handler
        self._most = config.max_connections if most is None else most
        self._most_per_user = most_per_user
        self._users: Counter[int] = Counter()
        self.draining = False
        self.connections: set[Downstream] = set()
        self.address = ""
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def open(self, address: str, *, mode: int = 0o600) -> None:
        """Listen on `unix:/path` or `host:port`; `mode` is that of the socket's file.

        Raises:
            OSError: the address cannot be used.
        """
        if address.startswith("unix:"):
            path = Path(address.removeprefix("unix:"))
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            self._server = await self.loop.create_unix_server(lambda: Downstream(self), str(path), backlog=1024)
            path.chmod(mode)
            self.address = address
        else:
            host, _, port = address.rpartition(":")
            self._server = await self.loop.create_server(
                lambda: Downstream(self), host.strip("[]"), int(port), backlog=1024
            )
            for listening in self._server.sockets:
                watch_peers(listening)
            self.address = f"{host}:{self._server.sockets[0].getsockname()[1]}"
        self._sweeper = self.loop.create_task(self._sweep())

    def admit(self, connection: Downstream) -> bool:
        """Whether one more connection is allowed; if so, it is counted from now on."""
        if self.draining or len(self.connections) >= self._most or self._has_its_share(connection.user):
            return False
        self.connections.add(connection)
        self._users[connection.user] += 1
        return True

    def _has_its_share(self, user: int) -> bool:
        if self._most_per_user is None or user in (NOBODY, os.getuid()):
            return False
        return self._users[user] >= self._most_per_user

    def forget(self, connection: Downstream) -> None:
        """A connection has ended."""
        if connection in self.connections:
            self.connections.remove(connection)
            self._users[connection.user] -= 1
            if not self._users[connection.user]:
                del self._users[connection.user]

    async def _sweep(self) -> None:
        """Close what is over its time; one walk per second is cheaper than a timer per request."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = self.loop.time()
            for connection in [c for c in self.connections if c.deadline < now]:
                connection.abort()

    def stop_accepting(self) -> None:
        """First step of a drain: no new connections, the others are closed after their next answer."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.keep_alive = False

    def close_idle(self) -> None:
        """Next step of a drain: connections without a request end."""
        for connection in list(self.connections):
            if not connection.busy:
                connection.close()

    @property
    def requests_in_flight(self) -> bool:
        """Whether a request, other than an open WebSocket, is still being answered."""
        return any(connection.busy and connection.tunnel is None for connection in self.connections)

    @property
    def idle(self) -> bool:
        """Whether a connection is open on which nothing is asked."""
        return any(not connection.busy for connection in self.connections)

    @property
    def sockets(self) -> list[Downstream]:
        """Those with a WebSocket, but for what is being closed."""
        return [one for one in self.connections if one.tunnel is not None and not one.closing]

    def cut_all(self, code: int, reason: str) -> None:
        """Last step of a drain: WebSockets get a close frame, everything else ends."""
        for connection in list(self.connections):
            connection.cut(code, reason)

    async def close(self) -> None:
        """End everything at once."""
        self.stop_accepting()
        for connection in list(self.connections):
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self.address.startswith("unix:"):
            with contextlib.suppress(FileNotFoundError):
                Path(self.address.removeprefix("unix:")).unlink()
