"""Questions about request targets."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

# What the gateway keeps for itself on the hosts of workspaces.
OWN_PATH = "/_slipway/"
ENTER_PATH = "/_slipway/enter"
AGAIN_PATH = "/_slipway/again"
_LOCAL = re.compile(r"/(?![/\\])[^\\\x00-\x1f\x7f]*")
_AGENT = re.compile(r"/internal/agent/[a-z0-9_/-]+")


def is_local(target: str) -> bool:
    """Whether a redirect to `target` stays on this host.

    It must start with a single slash, and hold no backslash or control character, which browsers rewrite.
    """
    return _LOCAL.fullmatch(target) is not None


def onward(target: str) -> str:
    """`target` where a redirect to it stays on this host and outside of the gateway's own paths, else "/"."""
    return target if is_local(target) and not target.startswith(OWN_PATH) else "/"


def again(target: str) -> str:
    """The address that asks whether `target` can be opened by now, without being a reason to wake a workspace."""
    return f"{AGAIN_PATH}?next={quote(onward(target), safe='')}"


def is_internal(target: str) -> bool:
    """Whether any reading of the path (decoded, doubled slashes, dot segments) leads below `/internal`."""
    raw = target.split("?", 1)[0].split("#", 1)[0].encode("utf-8", "surrogateescape")
    for _ in range(3):
        decoded = unquote_to_bytes(raw)
        if decoded == raw:
            break
        raw = decoded
    stack: list[bytes] = []
    for segment in raw.replace(b"\\", b"/").split(b"/"):
        if segment == b"..":
            del stack[-1:]
        elif segment not in (b"", b"."):
            stack.append(segment)
        if stack[:1] and stack[0].strip().lower() == b"internal":
            return True
    return False


def is_agent(target: str) -> bool:
    """Whether the path is one that agents may use; nothing encoded is let through."""
    return _AGENT.fullmatch(target.split("?", 1)[0]) is not None
