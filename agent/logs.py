"""The run's log: JSON lines on standard output, bounded in line length and in total."""

from __future__ import annotations

import datetime
import json
import os
from typing import Literal

Level = Literal["info", "warning", "error"]

LINE_LIMIT = 8 * 1024
"""Bytes of one line, including its end."""
TOTAL_LIMIT = 16 * 1024 * 1024
"""Bytes of one run."""

_CHUNK = 4000


class Log:
    """Writes lines to a file descriptor. Losing the reader never disturbs the workspace."""

    def __init__(self, descriptor: int = 1, *, limit: int = TOTAL_LIMIT) -> None:
        self._descriptor = descriptor
        self._left = limit
        self._cut = False

    def write(
        self, source: str, text: str, *, level: Level = "info", event: str = "", exit_code: int | None = None
    ) -> None:
        """Write one line of output, split where it is too long.

        Args:
            source: who said it: agent, clone, ide, extensions or the name of a lifecycle command.
            event: stable word for programs, where there is one.
        """
        extra: dict[str, object] = {}
        if event:
            extra["event"] = event
        if exit_code is not None:
            extra["exit_code"] = exit_code
        for start in range(0, max(len(text), 1), _CHUNK):
            self._write_chunk(source, text[start : start + _CHUNK], level, extra)

    def _write_chunk(self, source: str, text: str, level: Level, extra: dict[str, object]) -> None:
        line = _encode(source, text, level, extra)
        if len(line) > LINE_LIMIT:
            # Control characters grow sixfold in JSON, so the length is only known afterwards.
            half = len(text) // 2
            self._write_chunk(source, text[:half], level, extra)
            self._write_chunk(source, text[half:], level, extra)
            return
        if self._cut:
            return
        if len(line) > self._left:
            self._cut = True
            line = _encode(
                "agent", "The output of this run was cut here: it became too long.", "warning", {"event": "log_cut"}
            )
        self._left -= len(line)
        try:
            os.write(self._descriptor, line)
        except OSError:
            # Nobody reads the log any more, or its disk is full: the workspace goes on without.
            return


def _encode(source: str, text: str, level: Level, extra: dict[str, object]) -> bytes:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    record = {"t": now, "source": source, "level": level, "text": text, **extra}
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
