"""A door as a gateway finds it at an agent's: a TCP port in front of a folder of Unix sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

from typing_extensions import override

KEY = "sld_" + "fedcba9876543210" * 4


class DoorServer:
    """Lets in whoever has the key, and remembers what was said.

    Args:
        folder: where `ide.sock` and the folder `ports` are.

    Attributes:
        key: opens it.
        lines: the first lines of all connections, without their ends.
        open: connections that are open now.
        resets: connections that were torn away, not closed.
        answer: what to say in place of what is true; empty for what is true.
        stays: keep a connection open that is not let in.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = KEY
        self.lines: list[str] = []
        self.open = 0
        self.resets = 0
        self.answer = b""
        self.stays = False
        self._server: asyncio.Server | None = None

    @contextlib.asynccontextmanager
    async def listening(self, host: str = "127.0.0.1") -> AsyncIterator[DoorServer]:
        """Serve for as long as the block runs."""
        self._server = await asyncio.get_running_loop().create_server(lambda: _Visit(self), host, 0)
        try:
            yield self
        finally:
            self.close()

    def close(self) -> None:
        """Accept no more connections."""
        if self._server is not None:
            self._server.close()

    @property
    def url(self) -> str:
        assert self._server is not None
        host, port, *_ = self._server.sockets[0].getsockname()
        return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"

    @property
    def upstream(self) -> dict[str, str]:
        """What web says about a workspace behind this door."""
        return {"ide": self.url, "ports": self.url, "key": self.key}

    def path(self, line: str) -> Path | None:
        """The socket that a line opens."""
        said, _, name = line.rpartition(" ")
        if said != f"SLIPWAY/1 {self.key}":
            return None
        return self.folder / ("ide.sock" if name == "ide" else f"ports/{name.removeprefix('port/')}.sock")


class _End(asyncio.Protocol):
    """One end of two that are tied together."""

    other: _End | None = None
    transport: asyncio.Transport

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            self.other.transport.close()

    @override
    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    @override
    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()


class _Visit(_End):
    """One connection to the door."""

    def __init__(self, door: DoorServer) -> None:
        self._door = door
        self._said = b""
        self._task: asyncio.Task[None] | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._door.open += 1

    @override
    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            super().data_received(data)
            return
        self._said += data
        if self._said.endswith(b"\n"):
            line = self._said.decode().removesuffix("\n")
            self._door.lines.append(line)
            self._task = asyncio.ensure_future(self._open(line))

    async def _open(self, line: str) -> None:
        path = self._door.path(line)
        if self._door.answer or self._door.stays or path is None:
            self._refuse(self._door.answer)
            return
        with contextlib.suppress(OSError):
            _, there = await asyncio.get_running_loop().create_unix_connection(_End, str(path))
            there.other, self.other = self, there
            self.transport.write(b"OK\n")
            return
        self._refuse(b"NO\n")

    def _refuse(self, answer: bytes) -> None:
        self.transport.write(answer)
        if not self._door.stays:
            self.transport.close()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._door.open -= 1
        self._door.resets += isinstance(exc, ConnectionResetError)
        super().connection_lost(exc)
