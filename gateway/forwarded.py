"""What an upstream is told about the client: X-Forwarded-* and X-Request-ID."""

from __future__ import annotations

import functools
import ipaddress
import itertools
import re
import secrets

from gateway.config import Config, Network
from gateway.downstream import Downstream, Request

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_prefix = secrets.token_hex(6)
_count = itertools.count(1)


def _address(text: str) -> Address | None:
    """The address in one entry of X-Forwarded-For; proxies write a port behind it, or an IPv4 address as IPv6."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv4Address):
        return found
    return found.ipv4_mapped or (found if found.scope_id is None else None)


@functools.lru_cache(maxsize=4096)
def _trusted(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)


def _client(connection: Downstream, request: Request, networks: tuple[Network, ...]) -> tuple[str, bool]:
    """The client's address, and whether the peer is a trusted proxy.

    Each proxy adds on the right whom it heard from. So the right-most address that is no trusted proxy's is the client:
    what stands to the left of it is only what that client said.
    """
    peer = _address(connection.peer.partition("%")[0])
    if peer is None or not _trusted(peer, networks):
        return connection.peer, False
    client = peer
    for entry in reversed(",".join(request.message.headers.getall("X-Forwarded-For", ())).split(",")):
        hop = _address(entry)
        if hop is None:
            break
        client = hop
        if not _trusted(hop, networks):
            break
    return str(client), True


def fields(connection: Downstream, request: Request, config: Config) -> list[bytes]:
    """The lines to add to a request; what the client said about itself counts only if it is a trusted proxy."""
    source, scheme, host, identity = connection.peer, config.scheme, request.host, ""
    if config.trusted_proxies:
        source, believed = _client(connection, request, config.trusted_proxies)
        if believed:
            headers = request.message.headers
            scheme = headers.get("X-Forwarded-Proto", scheme)
            host = headers.get("X-Forwarded-Host", host)
            identity = headers.get("X-Request-ID", "")
    if not _ID.fullmatch(identity):
        identity = f"{_prefix}-{next(_count):x}"
    text = f"X-Forwarded-Proto: {scheme}\r\nX-Forwarded-Host: {host}\r\nX-Request-ID: {identity}"
    if source:
        text = f"X-Forwarded-For: {source}\r\n{text}"
    return [text.encode("utf-8", "surrogateescape")]
