"""Following WebSocket frames in a byte stream without taking them apart (RFC 6455, section 5.2)."""

from __future__ import annotations

_CONTROL = 0x08
_MASKED = 0x80


class FrameTracker:
    """Knows where frames end, and how many bytes of messages have passed.

    The bytes are relayed as they are; this only reads along, so that a close frame is never put inside another frame,
    and pings are not taken for a person's typing.
    """

    __slots__ = ("_left", "_partial", "_payload")

    def __init__(self) -> None:
        self._partial = b""
        self._left = 0
        self._payload = False

    @property
    def between_frames(self) -> bool:
        """Whether the last byte seen was the end of a frame."""
        return not self._left and not self._partial

    def feed(self, data: bytes) -> int:
        """Read along; returns how many bytes belonged to messages rather than to pings, pongs and close frames."""
        size = len(data)
        counted = 0
        at = min(self._left, size)
        if at:
            self._left -= at
            if self._payload:
                counted = at
            if at == size:
                return counted
        if self._partial:
            data = self._partial + data[at:]
            at, size = 0, len(data)
            self._partial = b""
        return counted + self._walk(data, at, size)

    def _walk(self, data: bytes, at: int, size: int) -> int:
        """Go from frame to frame, from `at`, where one starts. Small frames come by the thousand: no calls for them."""
        counted = 0
        last = size - 2
        while at <= last:
            # A length below 126 stands in the second byte; 0x80 there says that a mask of 4 bytes follows.
            length = data[at + 1]
            if length >= _MASKED:
                length -= _MASKED
                stop = at + 6 + length
            else:
                stop = at + 2 + length
            if length < 126 and stop <= size:
                if not data[at] & _CONTROL:
                    counted += length
                at = stop
                continue
            start, length = _measure(data, at, size)
            if not start:
                break
            inside = min(length, size - start)
            self._payload = not data[at] & _CONTROL
            counted += inside if self._payload else 0
            self._left = length - inside
            at = start + inside
        if at < size:
            self._partial = data[at:]
        return counted


def _measure(data: bytes, at: int, size: int) -> tuple[int, int]:
    """Where a frame's payload starts, and its length; (0, 0) while the header is incomplete."""
    length = data[at + 1] & 0x7F
    wide = {126: 2, 127: 8}.get(length, 0)
    start = at + 2 + wide + (4 if data[at + 1] & _MASKED else 0)
    if start > size:
        return 0, 0
    return start, int.from_bytes(data[at + 2 : at + 2 + wide], "big") if wide else length


def close_frame(code: int, reason: str) -> bytes:
    """An unmasked close frame, as a server sends it; the reason must be at most 123 bytes."""
    payload = code.to_bytes(2, "big") + reason.encode()
    return bytes((0x88, len(payload))) + payload
