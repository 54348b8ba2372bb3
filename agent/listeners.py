"""Which TCP ports are listened on.

Asked of the kernel by sock_diag(7), which walks the listening sockets alone: 0.1 ms. /proc/net/tcp, the way out where
that is not allowed, walks every connection of the machine: 50 ms where there are 20,000.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

_LISTEN = "0A"
_FIRST_PORT, _LAST_PORT = 1024, 65535

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_STATE_LISTEN = 1 << 10
_HEADER = struct.Struct("=IHHII")
# struct inet_diag_req_v2: family, protocol, extensions, padding, states, and an empty socket id of 48 bytes.
_REQUEST = struct.Struct("=BBBBI48x")
# struct inet_diag_msg: family, three bytes, source port, (destination port), source address, …, inode.
_ANSWER = struct.Struct("=B3x2s2x16s44xI")
_TIMEOUT = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket, and the address that it is bound to."""

    port: int
    address: str
    inode: int


def targets(listener: Listener, everything: Iterable[Listener]) -> list[str]:
    """Hosts to connect to in order to reach this listener, best first.

    Args:
        everything: all that listens; keeps the port of somebody else from being taken for this one.
    """
    if listener.address == "0.0.0.0":  # noqa: S104 - compared with, not bound to.
        return ["127.0.0.1"]
    if listener.address != "::":
        return [listener.address]
    # It usually takes IPv4 as well, which is the only way to it where the loopback has no IPv6 address.
    taken = any(other.port == listener.port and ":" not in other.address for other in everything)
    return ["::1"] if taken else ["::1", "127.0.0.1"]


def listening() -> frozenset[Listener]:
    """All sockets of this network that listen on ports 1024 to 65535, whoever they belong to."""
    try:
        found = [*_ask(socket.AF_INET), *_ask(socket.AF_INET6)]
    except OSError:
        found = []
        for name in ("tcp", "tcp6"):
            with contextlib.suppress(OSError):
                found += parse(Path("/proc/net", name).read_text(encoding="ascii"))
    return frozenset(item for item in found if _FIRST_PORT <= item.port <= _LAST_PORT)


def _ask(family: int) -> list[Listener]:
    """Listeners of one family from the kernel.

    Raises:
        OSError: it does not answer this here.
    """
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _STATE_LISTEN)
    header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
    found: list[Listener] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as link:
        link.settimeout(_TIMEOUT)
        link.send(header + request)
        while True:
            for kind, body in _messages(link.recv(65536)):
                if kind == _NLMSG_DONE:
                    return found
                if kind == _NLMSG_ERROR:
                    raise OSError(-struct.unpack_from("=i", body)[0], "sock_diag")
                found.append(_listener(body))


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, start)
        yield kind, data[start + _HEADER.size : start + length]
        start += (length + 3) & ~3


def _listener(body: bytes) -> Listener:
    family, port, address, inode = _ANSWER.unpack_from(body)
    packed = address[:4] if family == socket.AF_INET else address
    return Listener(int.from_bytes(port, "big"), str(ipaddress.ip_address(packed)), inode)


def _address(text: str) -> str:
    """Four bytes at a time, each in the machine's byte order."""
    words = [bytes.fromhex(text[start : start + 8]) for start in range(0, len(text), 8)]
    packed = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    return str(ipaddress.ip_address(packed))


def parse(text: str) -> list[Listener]:
    """Listening sockets of a table such as /proc/net/tcp (proc(5))."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 10 and fields[3] == _LISTEN:
            address, _, port = fields[1].rpartition(":")
            found.append(Listener(int(port, 16), _address(address), int(fields[9])))
    return found


def inodes_of(pids: Iterable[int]) -> set[int]:
    """Inodes of the sockets that these processes hold open."""
    inodes: set[int] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for descriptor in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    target = os.readlink(descriptor.path)  # noqa: PTH115 - the target is no path: "socket:[123]".
                    if target.startswith("socket:["):
                        inodes.add(int(target[8:-1]))
    return inodes
