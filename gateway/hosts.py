"""Which part of the platform a Host header means."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Literal

Kind = Literal["ide", "port", "web", "bad"]

SLUG = r"[a-z][a-z0-9-]{0,38}[a-z0-9]"
_HOST = re.compile(r"(?P<name>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?")
_LABEL = re.compile(rf"(?:(?P<port>[1-9]\d{{3,4}})-)?(?P<slug>{SLUG})")
_LOWEST_PORT = 1024
_HIGHEST_PORT = 65535


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a request wants to go.

    Args:
        kind: `ide` or `port` of a workspace, `web` for everything that is the portal's, `bad` for a name that can be
            neither.
        slug: the workspace's name; empty unless kind is `ide` or `port`.
        port: 1024 to 65535 for kind `port`, else None.
        label: the first label as it stands in the host name.
    """

    kind: Kind
    slug: str = ""
    port: int | None = None
    label: str = ""


_WEB = Place("web")
_BAD = Place("bad")


@functools.lru_cache(maxsize=4096)
def place(host: str, domain: str) -> Place:
    """Read a Host header's value.

    Args:
        host: the value, with or without a port, in any case.
        domain: the platform's domain, lower case.
    """
    match = _HOST.fullmatch(host.lower())
    if match is None:
        return _BAD
    name = match["name"].removesuffix(".")
    if not name.endswith("." + domain):
        return _WEB
    label = _LABEL.fullmatch(name.removesuffix("." + domain))
    if label is None:
        return _BAD
    if label["port"] is None:
        return Place("ide", label["slug"], None, label[0])
    port = int(label["port"])
    if not _LOWEST_PORT <= port <= _HIGHEST_PORT:
        return _BAD
    return Place("port", label["slug"], port, label[0])
