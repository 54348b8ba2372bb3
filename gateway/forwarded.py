"""What an upstream is told about the client: X-Forwarded-* and X-Request-ID."""

from __future__ import annotations

import functools
import ipaddress
import itertools
import re
import secrets

from gateway.config import Config, Network
from gateway.downstream import Downstream, Request

_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_prefix = secrets.token_hex(6)
_count = itertools.count(1)


@functools.lru_cache(maxsize=4096)
def _trusted(peer: str, networks: tuple[Network, ...]) -> bool:
    if not peer or not networks:
        return False
    address = ipaddress.ip_address(peer)
    return any(address in network for network in networks)


def fields(connection: Downstream, request: Request, config: Config) -> list[bytes]:
    """The lines to add to a request; what the client said about itself counts only if it is a trusted proxy."""
    peer = connection.peer
    source, scheme, host, identity = peer, config.scheme, request.host, ""
    if config.trusted_proxies and _trusted(peer, config.trusted_proxies):
        headers = request.message.headers
        before = headers.get("X-Forwarded-For", "")
        source = f"{before}, {peer}" if before else peer
        scheme = headers.get("X-Forwarded-Proto", scheme)
        host = headers.get("X-Forwarded-Host", host)
        identity = headers.get("X-Request-ID", "")
    if not _ID.fullmatch(identity):
        identity = f"{_prefix}-{next(_count):x}"
    text = f"X-Forwarded-Proto: {scheme}\r\nX-Forwarded-Host: {host}\r\nX-Request-ID: {identity}"
    if source:
        text = f"X-Forwarded-For: {source}\r\n{text}"
    return [text.encode("utf-8", "surrogateescape")]
