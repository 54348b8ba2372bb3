"""Steady load by a client that repeats nothing: what failed, and which sockets ended how, is counted."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import aiohttp
import httpx

TOLD_TO_GO = 1001
_ROUND = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """Something to ask for again and again.

    Attributes:
        host: in the Host header.
        path: with its query.
        rate: requests a second.
        headers: to send along.
        fresh: each request on a connection of its own; else connections are kept and used again.
    """

    host: str
    path: str
    rate: float
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    fresh: bool = False


@dataclasses.dataclass(slots=True)
class Count:
    """What came of it.

    Attributes:
        answered: requests with the answer 200.
        failed: what happened instead, with the host, by how often.
        slowest: the longest time until an answer, in seconds.
        messages: messages that came back on sockets.
        told: sockets that were closed with code 1001; each was opened again at once.
        cut: sockets that ended in another way, or could not be opened, by how often.
    """

    answered: int = 0
    failed: Counter[str] = dataclasses.field(default_factory=Counter)
    slowest: float = 0.0
    messages: int = 0
    told: int = 0
    cut: Counter[str] = dataclasses.field(default_factory=Counter)


class Load:
    """Requests and sockets, all to one address.

    Args:
        address: of the gateway, IPv4 without a port.
        pages: what to ask for.
        sockets: how many WebSockets to keep open, on each of which a message goes there and back each second.
        echo: where they lead; its path answers each message with itself.
    """

    def __init__(self, address: str, pages: list[Page], *, sockets: int, echo: Page) -> None:
        self.count = Count()
        self._address = address
        self._pages = pages
        self._sockets = sockets
        self._echo = echo
        self._over = asyncio.Event()
        self._open = 0

    @property
    def steady(self) -> bool:
        """Whether all sockets are open and each page was answered."""
        return self._open == self._sockets and self.count.answered >= len(self._pages)

    async def run(self) -> None:
        """Until `stop`."""
        limits = httpx.Limits(max_keepalive_connections=0)
        fresh = httpx.AsyncClient(trust_env=False, timeout=15, limits=limits)
        kept = httpx.AsyncClient(trust_env=False, timeout=15)
        async with fresh, kept, aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            for page in self._pages:
                group.create_task(self._ask(fresh if page.fresh else kept, page, group))
            for _ in range(self._sockets):
                group.create_task(self._talk(session))

    def stop(self) -> None:
        """End it, from its own loop."""
        self._over.set()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            pass

    async def _ask(self, client: httpx.AsyncClient, page: Page, group: asyncio.TaskGroup) -> None:
        """Requests at a rate that does not wait for answers."""
        began, sent = time.monotonic(), 0
        while not self._over.is_set():
            group.create_task(self._one(client, page))
            sent += 1
            await self._pause(max(0.0, began + sent / page.rate - time.monotonic()))

    async def _one(self, client: httpx.AsyncClient, page: Page) -> None:
        began = time.monotonic()
        try:
            answer = await client.get(f"http://{self._address}{page.path}", headers={"Host": page.host, **page.headers})
            wrong = "" if answer.status_code == 200 else str(answer.status_code)
        except httpx.HTTPError as error:
            wrong = repr(error)
        self.count.slowest = max(self.count.slowest, time.monotonic() - began)
        if wrong:
            self.count.failed[f"{page.host}{page.path}: {wrong}"] += 1
        else:
            self.count.answered += 1

    async def _talk(self, session: aiohttp.ClientSession) -> None:
        """One socket; another one each time that it ends."""
        while not self._over.is_set():
            try:
                told = await self._converse(session)
                self.count.told += told
            except (aiohttp.ClientError, OSError, TimeoutError, EOFError) as error:
                self.count.cut[repr(error)] += 1
                await self._pause(_ROUND)

    async def _converse(self, session: aiohttp.ClientSession) -> bool:
        """Messages until it is closed in order (True) or the load is over (False); everything else raises."""
        echo = self._echo
        headers = {"Host": echo.host, "Origin": f"http://{echo.host}", **echo.headers}
        async with session.ws_connect(f"http://{self._address}{echo.path}", headers=headers) as socket:
            self._open += 1
            try:
                while not self._over.is_set():
                    sent = str(time.monotonic())
                    # Where the close frame has come meanwhile, it is what is received next.
                    with suppress(ConnectionResetError):
                        await socket.send_str(sent)
                    message = await socket.receive(timeout=15)
                    if message.type is not aiohttp.WSMsgType.TEXT:
                        # The frame's own code: the client forgets it when it cannot answer any more.
                        if (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, TOLD_TO_GO):
                            return True
                        raise EOFError(f"{message.type.name} {message.data} {socket.close_code}")
                    if message.data != sent:
                        raise EOFError("another message came back")
                    self.count.messages += 1
                    await self._pause(_ROUND)
            finally:
                self._open -= 1
        return False


@contextmanager
def under(load: Load, wait: Callable[[Callable[[], bool]], object]) -> Iterator[Count]:
    """Run a block under load, in a thread of its own, once `wait` says that the load is steady."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(load.run()), name="load")
    thread.start()
    try:
        wait(lambda: load.steady)
        yield load.count
    finally:
        loop.call_soon_threadsafe(load.stop)
        thread.join()
        loop.close()
