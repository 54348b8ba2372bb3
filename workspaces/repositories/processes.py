"""Running a program that speaks to a stranger's server: a time limit, bounded output, and nothing left behind."""

from __future__ import annotations

import dataclasses
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

MAX_ERROR_BYTES = 16 * 1024
_CHUNK = 64 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Output:
    """What a command printed.

    Attributes:
        code: exit code; 0 as well where we ended it because it had printed enough.
        cut: whether there was more.
    """

    code: int
    stdout: str
    stderr: str
    cut: bool


class TimedOutError(Exception):
    """It took too long and was ended, with everything it had started."""


def run(
    command: Sequence[str], *, environment: Mapping[str, str], timeout: float, max_lines: int, max_bytes: int
) -> Output:
    """Run a command and collect up to `max_lines` lines of its output, or about `max_bytes` bytes.

    Raises:
        TimedOutError: after `timeout` seconds.
        OSError: it cannot be started.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environment),
        # Not where the platform was started: that may be a repository, whose settings git would read.
        cwd="/",
        start_new_session=True,
    ) as process:
        try:
            return _collect(process, time.monotonic() + timeout, _Printed(process, max_lines, max_bytes))
        finally:
            # Also after success: what it started may outlive it.
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


class _Printed:
    """What the process has printed so far."""

    def __init__(self, process: subprocess.Popen[bytes], max_lines: int, max_bytes: int) -> None:
        self._process = process
        self._max_lines, self._max_bytes = max_lines, max_bytes
        self._out, self._err, self._lines = bytearray(), bytearray(), 0

    def take(self, stream: object, chunk: bytes) -> None:
        if stream is self._process.stdout:
            self._out += chunk
            self._lines += chunk.count(b"\n")
        elif len(self._err) < MAX_ERROR_BYTES:
            self._err += chunk

    def is_enough(self) -> bool:
        return self._lines > self._max_lines or len(self._out) > self._max_bytes

    def output(self, code: int, *, cut: bool) -> Output:
        lines = bytes(self._out).split(b"\n")[: self._max_lines]
        return Output(code, _text(b"\n".join(lines)), _text(self._err), cut)


def _collect(process: subprocess.Popen[bytes], deadline: float, printed: _Printed) -> Output:
    with selectors.DefaultSelector() as selector:
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            for key in _ready(selector, deadline):
                chunk = os.read(key.fd, _CHUNK)
                printed.take(key.fileobj, chunk)
                if not chunk:
                    selector.unregister(key.fileobj)
            if printed.is_enough():
                return printed.output(0, cut=True)
    try:
        return printed.output(process.wait(max(0.0, deadline - time.monotonic())), cut=False)
    except subprocess.TimeoutExpired as error:
        raise TimedOutError from error


def _ready(selector: selectors.BaseSelector, deadline: float) -> list[selectors.SelectorKey]:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimedOutError
    return [key for key, _ in selector.select(left)]


def _text(data: bytes | bytearray) -> str:
    return bytes(data).decode("utf-8", "surrogateescape")
