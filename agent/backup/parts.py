"""The archive cut into parts: each is a zstd frame of its own, and all of them in order are one zstd stream.

Parts are small enough to be held in memory, so that a part's digest is known before it is sent: what the registry has
already is not sent twice, and what comes back is verified before any of it is used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from agent.backup.registry import damaged

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PART = 32 * 1024 * 1024
"""Bytes of a part, about."""
LONGEST = 4 * PART
"""Bytes of the longest part that is read."""
_PIECE = 1024 * 1024
# Memory that a frame may ask for when it is read: 2 to this power.
_WINDOW_LOG = 25


class Cutter:
    """A file that is only written: what comes in goes out compressed, in parts.

    Args:
        store: takes a part.
        level: of the compression, 1 (fast) to 19 (small).
        part_bytes: size at which a part ends.
    """

    def __init__(self, store: Callable[[bytes], None], *, level: int = 3, part_bytes: int = PART) -> None:
        self._store = store
        self._part_bytes = part_bytes
        self._compressor = zstd.ZstdCompressor(level=level)
        self._part = bytearray()
        self._begun = False

    def write(self, data: bytes) -> int:
        """Take more of the archive."""
        self._part += self._compressor.compress(data)
        self._begun = True
        if len(self._part) >= self._part_bytes:
            self.end()
        return len(data)

    def end(self) -> None:
        """End the part, if it has anything in it."""
        if not self._begun:
            return
        self._part += self._compressor.flush(zstd.ZstdCompressor.FLUSH_FRAME)
        self._store(bytes(self._part))
        self._part.clear()
        self._begun = False


class Joiner:
    """A file that is only read: parts go in, each whole and verified, and the archive comes out.

    Raises:
        Problem: a part is no zstd frame.
    """

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._pieces = _unpacked(parts)
        self._left = b""

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the end."""
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._left = piece
        found, self._left = self._left[:size], self._left[size:]
        return found


def _unpacked(parts: Iterator[bytes]) -> Iterator[bytes]:
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
    for part in parts:
        unpacker = zstd.ZstdDecompressor(options=options)
        try:
            piece = unpacker.decompress(part, max_length=_PIECE)
            while not unpacker.eof:
                if unpacker.needs_input:
                    raise damaged("a part ends too early")
                yield piece
                piece = unpacker.decompress(b"", max_length=_PIECE)
            yield piece
        except zstd.ZstdError as error:
            raise damaged(f"a part cannot be unpacked ({error})") from error
        if unpacker.unused_data:
            raise damaged("a part is longer than it should be")
