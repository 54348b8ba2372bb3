"""Header fields on their way through: what is removed, what is added, and how a head is written.

Hop-by-hop fields: RFC 9110, section 7.6.1. Framing is always written anew from what the parser understood, so that both
sides of the gateway agree on where a message ends (RFC 9112, sections 6 and 11.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from gateway.cookies import CookieRules

Raw = Iterable[tuple[bytes, bytes]]

_HOP = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    b"content-length",
})  # fmt: skip
# What only the gateway itself may say to an upstream.
_OURS = frozenset({
    b"host", b"expect", b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto",
    b"x-forwarded-port", b"x-forwarded-prefix", b"x-real-ip", b"x-request-id", b"x-slipway-internal",
    b"http2-settings", b"proxy-authorization",
})  # fmt: skip
_REQUEST_DROP = _HOP | _OURS
_KEPT_OPTIONS = frozenset({b"keep-alive", b"close", b"upgrade", b""})
# Every token of ours starts like this, and stands by itself: another program's token may have the same letters within.
_TOKEN = re.compile(rb"(?<![A-Za-z0-9_-])slp_")
_BEARER = re.compile(r"bearer +(slp_\S*)", re.IGNORECASE)
_REASON = re.compile(r"[\t\x20-\x7e]*")


def connection_options(value: str) -> frozenset[bytes]:
    """Names of the further fields that a Connection header declares to be for this hop only."""
    options = {part.strip().lower() for part in value.encode("utf-8", "surrogateescape").split(b",")}
    return frozenset(options - _KEPT_OPTIONS)


def request_fields(raw: Raw, *, hop: frozenset[bytes], cookies: CookieRules | None) -> list[bytes]:
    """The client's fields that an upstream may see, as `Name: value` lines without line ends.

    Args:
        raw: the fields as received.
        hop: lower-case names that the Connection header listed.
        cookies: removes the platform's cookies, and tokens go with them; None for the portal, which owns both.
    """
    drop = _REQUEST_DROP | hop if hop else _REQUEST_DROP
    lines = []
    for name, value in raw:
        lower = name.lower()
        # An underscore reads as a dash in CGI-style environments, so such names could pose as ours.
        if lower in drop or b"_" in lower:
            continue
        if cookies is not None:
            if lower == b"cookie":
                value = cookies.outbound(value)  # The cleaned value replaces the received one.
                if not value:
                    continue
            elif lower == b"authorization" and _TOKEN.search(value):
                continue
        lines.append(name + b": " + value)
    return lines


def bearer(values: Iterable[str]) -> str | None:
    """The first token of ours in the values of the Authorization headers.

    The scheme may be written in any case (RFC 9110, section 11.1), the token may not.
    """
    for value in values:
        match = _BEARER.fullmatch(value.strip())
        if match is not None and match[1].startswith("slp_"):
            return match[1]
    return None


def websocket_fields(lines: list[bytes]) -> list[bytes]:
    """The same fields for a WebSocket handshake: without extensions, so that frames stay uncompressed."""
    kept = [line for line in lines if not line.lower().startswith(b"sec-websocket-extensions:")]
    return [*kept, b"Connection: Upgrade", b"Upgrade: websocket"]


def response_fields(raw: Raw, *, connection: str, cookies: CookieRules | None) -> list[bytes]:
    """The upstream's fields that a client may see.

    Args:
        raw: the fields as received.
        connection: value of the Connection header.
        cookies: removes cookies that would pose as the platform's; None for the portal.
    """
    drop = _HOP | connection_options(connection) if connection else _HOP
    lines = []
    for name, value in raw:
        lower = name.lower()
        if lower in drop or b"\r" in value:
            continue
        if cookies is not None and lower == b"set-cookie":
            kept = cookies.inbound(value)
            if kept is not None:
                lines.append(name + b": " + kept)
            continue
        lines.append(name + b": " + value)
    return lines


def status_line(code: int, reason: str) -> bytes:
    """First line of a response; a reason phrase with odd characters is left out."""
    if not _REASON.fullmatch(reason):
        reason = ""
    return b"HTTP/1.1 %d %s" % (code, reason.encode("ascii"))


def head(first: bytes, lines: list[bytes]) -> bytes:
    """The whole head, with the empty line that ends it."""
    return b"\r\n".join((first, *lines, b"", b""))
