"""Into workspaces on other machines, by the door that the agent opens there.

The first line on a connection is `SLIPWAY/1 <key> <name>`; the name is `ide` or `port/<number>`. After the answer `OK`,
on a line of its own, the connection is one to that. `NO` says that nobody listens there; with another key there is no
answer at all.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway.sockets import watch_peers

if TYPE_CHECKING:
    from gateway.upstream import Address, Upstream

SCHEME = "tcp://"
_KEY = re.compile(r"[!-~]{1,200}")
_OK = b"OK\n"


def target(url: str) -> tuple[str, int]:
    """Host and port of `tcp://host:port`.

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(url)
    if not url.startswith(SCHEME) or not parts.hostname or not parts.port or "@" in url or parts.path or parts.query:
        raise ValueError(f"not tcp://host:port: {url!r}")
    return parts.hostname, parts.port


def check(key: str) -> None:
    """See that the key can stand in the first line.

    Raises:
        ValueError: it cannot; does not tell the key.
    """
    if not _KEY.fullmatch(key):
        raise ValueError("no key that a door would know")


async def enter(upstream: Upstream, address: Address) -> None:
    """Say who is there on a connection that was just made, and wait to be let in. If not, the connection is closed.

    Raises:
        ConnectionRefusedError: nobody listens there, or the door did not answer as it should.
    """
    answer = _Answer(upstream)
    try:
        if upstream.transport is not None:
            watch_peers(upstream.transport.get_extra_info("socket"))
        upstream.write(f"SLIPWAY/1 {address.key} {address.name}\n".encode())
        await answer.came
    except BaseException:
        upstream.abort()
        raise


class _Answer:
    """What the door says to the first line."""

    def __init__(self, upstream: Upstream) -> None:
        self.came = upstream.loop.create_future()
        self._upstream = upstream
        self._said = b""
        upstream.sink, upstream.on_lost = self._take, self._refused

    def _take(self, data: bytes) -> None:
        self._said += data
        if not _OK.startswith(self._said):
            self._refused()
        elif self._said == _OK and not self.came.done():
            # Whatever comes before a request is now what nobody asked for, as on any other connection.
            self._upstream.sink = self._upstream.on_lost = None
            self.came.set_result(None)

    def _refused(self) -> None:
        if not self.came.done():
            self.came.set_exception(ConnectionRefusedError("the door was not opened"))
