"""The load generator: raw asyncio protocols on uvloop, so that it costs less than what it measures."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from typing import Any, cast

from typing_extensions import override

HOST = "bench.localhost"
ORIGIN = f"http://{HOST}"
# What a browser sends along is about this much.
HEAD = (
    f"Host: {HOST}\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) bench\r\nAccept: */*\r\n"
    "Accept-Language: en-GB,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br\r\n"
    "Cookie: slipway_workspace=0123456789abcdef0123456789abcdef; vscode-tkn=abc\r\n"
)
REQUEST = f"GET /static/out/file.js?x=1 HTTP/1.1\r\n{HEAD}\r\n".encode()
CLOSING = f"GET / HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n".encode()


class Getter(asyncio.Protocol):
    """One keep-alive connection that asks again as soon as it has its answer."""

    def __init__(self, times: list[float], until: float, done: asyncio.Future[None]) -> None:
        self.times, self.until, self.done = times, until, done
        self.missing = 0
        self.head = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.ask()

    def ask(self) -> None:
        self.started = time.perf_counter()
        self.transport.write(REQUEST)

    @override
    def data_received(self, data: bytes) -> None:
        if not self.missing:
            self.head += data
            head, found, rest = self.head.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 200 " not in head[:16]:
                raise RuntimeError(f"unexpected answer: {head[:200]!r}")
            self.missing = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            self.head, data = b"", rest
        self.missing -= len(data)
        if not self.missing:
            now = time.perf_counter()
            self.times.append(now - self.started)
            if now < self.until:
                self.ask()
            else:
                self.transport.close()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def http(port: int, connections: int, seconds: float) -> dict[str, float]:
    """Requests per second and latency of a closed loop."""
    loop = asyncio.get_running_loop()
    times: list[float] = []
    started = time.perf_counter()
    waits = []
    for _ in range(connections):
        done = loop.create_future()
        waits.append(done)
        await loop.create_connection(lambda done=done: Getter(times, started + seconds, done), "127.0.0.1", port)  # type: ignore[misc]  # mypy cannot type a default of a lambda.
    await asyncio.gather(*waits)
    elapsed = time.perf_counter() - started
    times.sort()
    return {
        "units": len(times),
        "requests_per_second": len(times) / elapsed,
        "p50_ms": times[len(times) // 2] * 1000,
        "p99_ms": times[int(len(times) * 0.99)] * 1000,
    }


class Echo(asyncio.Protocol):
    """One WebSocket that keeps a number of bytes on the way and counts what comes back."""

    def __init__(self, frame: bytes, window: int, ready: asyncio.Future[None]) -> None:
        self.frame, self.window, self.ready = frame, window, ready
        self.back = 0
        self.upgraded = False
        self.running = True

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(handshake())

    @override
    def data_received(self, data: bytes) -> None:
        if not self.upgraded:
            head, _, data = data.partition(b"\r\n\r\n")
            if b" 101 " not in head[:16]:
                raise RuntimeError(f"unexpected answer: {head[:200]!r}")
            self.upgraded = True
            self.ready.set_result(None)
            for _ in range(self.window):
                self.transport.write(self.frame)
        before = self.back // len(self.frame)
        self.back += len(data)
        whole = self.back // len(self.frame) - before
        if whole and self.running:
            self.transport.write(self.frame * whole)


def handshake() -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET /ws HTTP/1.1\r\n{HEAD}Origin: {ORIGIN}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()


def masked_frame(size: int) -> bytes:
    marker = size if size < 126 else 126 if size < 65_536 else 127
    extended = b"" if size < 126 else size.to_bytes(2 if size < 65_536 else 8, "big")
    return bytes((0x82, 0x80 | marker)) + extended + b"\0\0\0\0" + os.urandom(size)


async def websocket(port: int, connections: int, size: int, window: int, seconds: float) -> dict[str, float]:
    """Bytes per second that go to the backend and come back."""
    loop = asyncio.get_running_loop()
    frame = masked_frame(size)
    sockets: list[Echo] = []
    for _ in range(connections):
        ready = loop.create_future()
        _, socket = await loop.create_connection(lambda ready=ready: Echo(frame, window, ready), "127.0.0.1", port)  # type: ignore[misc]  # As above.
        sockets.append(socket)
        await ready
    start = time.perf_counter()
    before = sum(socket.back for socket in sockets)
    await asyncio.sleep(seconds)
    done = sum(socket.back for socket in sockets) - before
    elapsed = time.perf_counter() - start
    for socket in sockets:
        socket.running = False
        socket.transport.abort()
    return {
        "units": done / 1e6,
        "megabytes_per_second": done / elapsed / 1e6,
        "frames_per_second": done / elapsed / len(frame),
    }


async def churn(port: int, total: int) -> None:
    """Open and leave connections in three ways: closed by the answer, a WebSocket cut off, a request left behind."""
    limit = asyncio.Semaphore(64)

    async def one(number: int) -> None:
        async with limit:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            kind = number % 3
            writer.write((CLOSING, handshake(), REQUEST)[kind])
            if kind == 0:
                await reader.read()
            elif kind == 1:
                await reader.readuntil(b"\r\n\r\n")
            cast("Any", writer.transport).abort()

    for start in range(0, total, 1000):
        await asyncio.gather(*[one(number) for number in range(start, min(start + 1000, total))])
