"""Turns the bytes of a process into lines of text."""

from __future__ import annotations

import re
from collections.abc import Callable

_END = re.compile(rb"\r\n|\n|\r")
LONGEST = 64 * 1024
"""A line longer than this many bytes is handed out in pieces."""


def _ignore(text: str) -> None:
    """Drop what a terminal would have overwritten."""
    del text


class LineSplitter:
    """Feed it bytes; it calls `on_line` for lines and `on_transient` for text that a carriage return overwrites."""

    def __init__(self, on_line: Callable[[str], None], on_transient: Callable[[str], None] = _ignore) -> None:
        self._on_line = on_line
        self._on_transient = on_transient
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Bytes that are no UTF-8 come out as replacement characters."""
        buffer = self._rest + data
        start = 0
        for match in _END.finditer(buffer):
            if match.group() == b"\r" and match.end() == len(buffer):
                break  # It may be the first half of "\r\n".
            text = buffer[start : match.start()].decode("utf-8", "replace")
            (self._on_transient if match.group() == b"\r" else self._on_line)(text)
            start = match.end()
        self._rest = buffer[start:]
        while len(self._rest) > LONGEST:
            self._on_line(self._rest[:LONGEST].decode("utf-8", "replace"))
            self._rest = self._rest[LONGEST:]

    def close(self) -> None:
        """Hand out what is left when the stream ends without a line end."""
        if self._rest.strip(b"\r"):
            self._on_line(self._rest.rstrip(b"\r").decode("utf-8", "replace"))
        self._rest = b""
