"""Which servers may be asked, by their names and by the addresses that the names stand for."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from kernel.errors import Forbidden
from workspaces.repositories import git_errors, processes

# Cloud metadata services give out credentials of the machine we run on. Most of them are at link-local addresses; these
# are the others' names, and the addresses of AWS, Google, Alibaba, Azure and Oracle.
_METADATA_NAMES = frozenset({"metadata.google.internal", "metadata.goog"})
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits.
_PORTS = {"http": 80, "https": 443}
_MOST_ADDRESSES = 16
# In a process of its own, because the resolver's waits cannot be cut short.
_LOOK_UP = (
    "import socket, sys\n"
    "for found in socket.getaddrinfo(sys.argv[1], None, type=socket.SOCK_STREAM): print(found[4][0])"
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """The server in a clone URL. `port` is None unless git speaks http or https to it."""

    host: str
    port: int | None

    @classmethod
    def of(cls, clone_url: str) -> Server:
        """Read it from a URL or from `user@host:path`; the host is empty where there is none."""
        if "://" not in clone_url:
            rest = clone_url.partition("@")[2]
            host = rest[1:].partition("]")[0] if rest.startswith("[") else rest.partition(":")[0]
            return cls(host.casefold().rstrip("."), None)
        parts = urlsplit(clone_url)
        port = (parts.port or _PORTS[parts.scheme]) if parts.scheme in _PORTS else None
        return cls((parts.hostname or "").casefold().rstrip("."), port)


def check(server: Server, *, blocked: Sequence[str], timeout: float) -> list[str]:
    """Look the server up, and refuse it where its name or one of its addresses may not be asked.

    Args:
        blocked: patterns (`*` and `?`) of names and addresses; link-local and metadata addresses are refused anyway.
        timeout: seconds for the lookup.

    Returns:
        Options for git that let it use just these addresses over http and https: a lookup of its own might give others.

    Raises:
        Forbidden: `repository_host_blocked`.
        UserFault: `repository_host_unknown`.
        TimedOutError: the lookup took too long.
    """
    if not server.host:
        return []
    if server.host in _METADATA_NAMES or _matches(server.host, blocked):
        raise _refusal()
    literal = _literal(server.host)
    addresses = [literal] if literal else _look_up(server.host, timeout)
    for one in (form for address in addresses for form in _forms(address)):
        if one.is_link_local or one in _METADATA or _matches(str(one), blocked):
            raise _refusal()
    if literal or server.port is None:
        return []
    shown = ",".join(f"[{one}]" if one.version == 6 else str(one) for one in addresses)
    return ["-c", f"http.curloptResolve={server.host}:{server.port}:{shown}"]


def _matches(spelling: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(spelling, pattern.casefold().strip("[]")) for pattern in patterns)


def _refusal() -> Forbidden:
    return Forbidden(
        "repository_host_blocked",
        "This server may not be used for repositories here.",
        "Use another server, or ask the administrator to allow it.",
        field="repo",
    )


def _literal(host: str) -> Address | None:
    """The IP address that the host is, in any notation that the C library takes; None for a name."""
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        pass
    try:
        return ipaddress.IPv6Address(host)
    except ValueError:
        return None


def _forms(address: Address) -> Iterator[Address]:
    """The address, and the IPv4 address that it leads to where it wraps one."""
    yield address
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            yield inner


def _look_up(name: str, timeout: float) -> list[Address]:
    command = [sys.executable, "-I", "-S", "-c", _LOOK_UP, name]
    found = processes.run(
        command, environment={"PATH": os.defpath}, timeout=timeout, max_lines=_MOST_ADDRESSES, max_bytes=64 * 1024
    )
    texts = list(dict.fromkeys(found.stdout.split()))
    if found.code or not texts:
        raise git_errors.unknown_host(found.stderr)
    return [ipaddress.ip_address(text) for text in texts]
