"""`python -m tests.cluster.relay ADDRESS PORT [TARGET]`: what connects there reaches that port, or TARGET, of loopback.

So the API listens on loopback alone, and a node can reach it all the same; and a way to it can be cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError), contextlib.closing(writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


async def serve(address: str, port: int, target: int) -> None:
    """Relay until cancelled. Each end's closing closes the other; a refused connection is closed at once."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up, down = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, down), _copy(up, writer))

    async with await asyncio.start_server(relay, address, port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[-1])))
