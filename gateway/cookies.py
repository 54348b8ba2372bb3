"""Keeps the platform's cookies away from workspaces, whose servers run the user's code, and the other way round."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# All that browsers know by now: RFC 6265bis, section 4.1.3.
_PREFIXES = r"(?:__(?:host|secure|http|host-?http)-)?"


class CookieRules:
    """Rules for one set of protected names and one domain.

    Args:
        names: protected cookies; a trailing `*` stands for any ending. Case is ignored, and each name is protected with
            the prefixes of browsers, such as `__Host-`, too.
        domain: the platform's domain, lower case.
    """

    def __init__(self, names: Sequence[str], domain: str) -> None:
        alternatives = "|".join(
            re.escape(name.removesuffix("*")) + (".*" if name.endswith("*") else "") for name in names
        )
        self._protected = re.compile(f"{_PREFIXES}(?:{alternatives})".encode(), re.IGNORECASE | re.DOTALL)
        # A value without any of these words needs no closer look, and most have none.
        words = "|".join(re.escape(name.removesuffix("*")) for name in names)
        self._suspect = re.compile(words.encode(), re.IGNORECASE)
        self._domain = domain.encode()

    def outbound(self, value: bytes) -> bytes:
        """A Cookie header's value without the platform's cookies; empty when nothing is left."""
        if not self._suspect.search(value):
            return value
        kept = [part for part in value.split(b";") if part.strip() and not self._is_protected(part)]
        return b";".join(kept).strip()

    def inbound(self, value: bytes) -> bytes | None:
        """A Set-Cookie header's value as a workspace may set it.

        A Domain attribute that covers the platform's domain is removed, which leaves a cookie for this host only.

        Returns:
            None when the cookie has a name of the platform's and must be dropped.
        """
        pair, *attributes = value.split(b";")
        if self._is_protected(pair):
            return None
        kept = [attribute for attribute in attributes if not self._covers(attribute)]
        return b";".join((pair, *kept))

    def _is_protected(self, pair: bytes) -> bool:
        # A cookie without "=" is one without a name, and a server may read its value as a name.
        name = pair.strip().lstrip(b"=").split(b"=", 1)[0].strip()
        return self._protected.fullmatch(name) is not None

    def _covers(self, attribute: bytes) -> bool:
        name, _, domain = attribute.partition(b"=")
        if name.strip().lower() != b"domain":
            return False
        domain = domain.strip().strip(b'"').lower().lstrip(b".")
        return self._domain == domain or self._domain.endswith(b"." + domain)


def workspace_cookie(scheme: str) -> str:
    """Name of the cookie that lets a browser into a workspace."""
    return _prefix(scheme) + "slipway_workspace"


def nonce_cookie(scheme: str) -> str:
    """Name of the cookie that binds a one-time code to the browser that asked for it."""
    return _prefix(scheme) + "slipway_nonce"


def _prefix(scheme: str) -> str:
    """On https, one with which browsers take a cookie from this very host only (RFC 6265bis, section 4.1.3.2).

    Other hosts of the domain run the code of other users, who could otherwise plant a cookie by its Domain attribute.
    """
    return "__Host-" if scheme == "https" else ""


def cookie(headers: Iterable[str], name: str) -> str | None:
    """The first cookie of that name in the values of the Cookie headers."""
    for value in headers:
        if name in value:
            for part in value.split(";"):
                key, _, content = part.strip().partition("=")
                if key == name:
                    return content
    return None
