"""Where what happens now comes from: bound once per request, read by the audit log.

A context variable, so that a domain function need not be handed a request to say from where it was called. Work that no
request asked for (a worker's, a command's) has an empty origin.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from contextvars import ContextVar


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """From where something is done.

    Attributes:
        address: the client's IP address, if known.
        request_id: the request's id, as in its log lines and in `X-Request-ID`.
        via: the token by which the caller proved who they are, as `token:<id>`; empty for a browser's session.
    """

    address: str | None = None
    request_id: str = ""
    via: str = ""


_NOWHERE = Origin()
_current: ContextVar[Origin] = ContextVar("slipway_origin", default=_NOWHERE)


def begin(*, address: str, request_id: str) -> None:
    """A request begins. An address that is none (a Unix socket has none) is left out."""
    try:
        shown: str | None = str(ipaddress.ip_address(address))
    except ValueError:
        shown = None
    _current.set(Origin(address=shown, request_id=request_id))


def proved(via: str) -> None:
    """The caller of this request has proved who they are, in this way."""
    _current.set(dataclasses.replace(_current.get(), via=via))


def current() -> Origin:
    """From where the present work was asked for."""
    return _current.get()
