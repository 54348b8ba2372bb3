"""Keeps one known and harmless complaint of code-server out of the log.

Its log writer is a native module that is not built everywhere. Each process of code-server says so at length, with the
places it looked in and its stack, and goes on without; where one process hands on what another says, the first line
also says whose it is. Exactly this is dropped: the same words about any other module, and whatever follows, stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_BEGINS = "Error: Could not locate the bindings file. Tried:"
_PLACE = re.compile(r" → .*\bspdlog\.node")
# What Node prints of such an error: its message's lines, its stack, and its properties.
_REST = re.compile(r" → .*\bspdlog\.node|    at .*|  tries: \[|    '.*\bspdlog\.node',?|  \]")
_ENDS = "}"


class NoiseFilter:
    """Feed it lines; it hands on those that are worth reading."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._held: str | None = None
        self._inside = False

    def feed(self, text: str) -> None:
        """Take the next line. One that may begin the complaint is held back until the next one tells."""
        if self._held is not None and _PLACE.fullmatch(text):
            self._held, self._inside = None, True
        elif self._inside and _REST.fullmatch(text):
            return
        elif self._inside and text == _ENDS:
            self._inside = False
        else:
            self._inside = False
            self.close()
            self._take(text)

    def close(self) -> None:
        """Hand out what was held back."""
        held, self._held = self._held, None
        if held is not None:
            self._on_line(held)

    def _take(self, text: str) -> None:
        if text.endswith(_BEGINS):
            self._held = text
        else:
            self._on_line(text)
