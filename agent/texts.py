"""Texts of foreign origin, made fit to be reported: a repository must not be able to break a report."""

from __future__ import annotations

import re

# C0, DEL and C1, but for tab and line feed.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def whole(text: str) -> str:
    """The text with what UTF-8 cannot hold (lone surrogates) replaced by question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def clean(text: str, limit: int) -> str:
    """The text without lone surrogates and control characters, at most `limit` characters long."""
    return _CONTROL.sub("", whole(text))[:limit]
