"""The trivial backend behind both proxies: answers HTTP at once, and sends a WebSocket's bytes back as they are."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import sys
from typing import cast

import uvloop
from typing_extensions import override

BODY = b"x" * 1024
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n" + BODY
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"sec-websocket-key: (\S+)", re.IGNORECASE)


class Backend(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.raw = False
        self.seen = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    @override
    def pause_writing(self) -> None:
        self.transport.pause_reading()

    @override
    def resume_writing(self) -> None:
        self.transport.resume_reading()

    @override
    def data_received(self, data: bytes) -> None:
        if self.raw:
            self.transport.write(data)
            return
        self.seen += data
        while b"\r\n\r\n" in self.seen:
            head, _, self.seen = self.seen.partition(b"\r\n\r\n")
            key = _KEY.search(head)
            if key is None:
                self.transport.write(ANSWER)
                continue
            accept = base64.b64encode(hashlib.sha1(key[1] + _GUID).digest())
            self.transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            self.raw = True
            self.transport.write(self.seen)
            return


class StubWeb(asyncio.Protocol):
    """Web's part: allows everything. It is asked once in `ttl` seconds, so its speed does not matter."""

    backend = ""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        document = {
            "decision": "allow", "workspace": "bench", "slug": "bench", "user": "1", "session": "s", "state": "running",
            "reason": "", "upstream": {"ide": self.backend, "ports": self.backend}, "ttl": 10, "start_page": "",
        }  # fmt: skip
        body = json.dumps(document).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self.transport.write(head + body)


async def main(port: int, web_port: int) -> None:
    loop = asyncio.get_running_loop()
    StubWeb.backend = f"http://127.0.0.1:{port}"
    await loop.create_server(Backend, "127.0.0.1", port, backlog=1024)
    await loop.create_server(StubWeb, "127.0.0.1", web_port)
    await loop.create_future()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), int(sys.argv[2])))
