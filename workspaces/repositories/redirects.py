"""Where a server sends git on to, from the headers that git's trace shows."""

from __future__ import annotations

import re
from urllib.parse import urljoin

_REFUSED = re.compile(r"requested url returned error: 3\d\d", re.IGNORECASE)
_LOCATION = re.compile(r"<= Recv header: *location: *(\S+)", re.IGNORECASE)
_ASKED = "/info/refs?service=git-upload-pack"


def refused(stderr: str) -> bool:
    """Whether git ended because it would not follow a redirect."""
    return bool(_REFUSED.search(stderr))


def target(trace: str, clone_url: str) -> str:
    """The repository's address that the server names instead; empty where it names something else, such as a page."""
    found = _LOCATION.search(trace)
    try:
        location = urljoin(f"{clone_url}{_ASKED}", found[1]) if found else ""
    except ValueError:
        return ""
    return location.removesuffix(_ASKED) if location.endswith(_ASKED) else ""
