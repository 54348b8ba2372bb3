"""Starting and ending processes, each in a session of its own.

Output goes through a pipe of our own: a background process that a command leaves behind may hold it open for ever, so
"has ended" means the process, never the pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agent.lines import LineSplitter, _ignore

_PR_SET_CHILD_SUBREAPER = 36
_DRAIN_ROUNDS = 64

tracked: set[int] = set()
"""Processes that are waited for here; whoever reaps orphans must leave them alone."""


def become_subreaper() -> None:
    """Have orphaned descendants handed to this process (prctl(2)), so that none can escape the final sweep."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to a process group; one that is gone is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


class Child:
    """One process with its group. Use `start`."""

    def __init__(self, process: asyncio.subprocess.Process, reader: int, splitter: LineSplitter) -> None:
        self._process = process
        self._reader: int | None = reader
        self._splitter = splitter
        self._finished: asyncio.Task[int] | None = None
        self.last_output = asyncio.get_running_loop().time()

    @classmethod
    async def start(
        cls,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        on_line: Callable[[str], None],
        on_transient: Callable[[str], None] = _ignore,
    ) -> Child:
        """Start a program with nothing on standard input; both outputs go to `on_line`.

        Raises:
            OSError: there is no such program or folder.
        """
        reader, writer = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        tracked.add(process.pid)
        os.set_blocking(reader, False)
        child = cls(process, reader, LineSplitter(on_line, on_transient))
        asyncio.get_running_loop().add_reader(reader, child._read)
        child._finished = asyncio.create_task(child._finish())
        return child

    @property
    def pid(self) -> int:
        """Process id, which is the group's and the session's as well."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """The process itself has not ended yet."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Wait for the process to end: its exit code, or minus the number of the signal that ended it."""
        assert self._finished is not None  # noqa: S101 - `start` sets it; this tells the type checker so.
        return await asyncio.shield(self._finished)

    async def stop(self, grace: float) -> int:
        """End the whole group: politely, and by force after `grace` seconds. Safe to call more than once."""
        signal_group(self.pid, signal.SIGTERM)
        try:
            code = await asyncio.wait_for(self.wait(), grace)
        except TimeoutError:
            signal_group(self.pid, signal.SIGKILL)
            code = await self.wait()
        signal_group(self.pid, signal.SIGKILL)
        self.close()
        return code

    def kill(self) -> None:
        """End the whole group now."""
        signal_group(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Stop listening to its output."""
        if self._reader is not None:
            asyncio.get_running_loop().remove_reader(self._reader)
            os.close(self._reader)
            self._reader = None
            self._splitter.close()

    async def _finish(self) -> int:
        code = await self._process.wait()
        tracked.discard(self._process.pid)
        for _ in range(_DRAIN_ROUNDS):
            if not self._read():
                break
        return code

    def _read(self) -> bool:
        """Take what is there; False when nothing was."""
        if self._reader is None:
            return False
        try:
            data = os.read(self._reader, 65536)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            return False
        self.last_output = asyncio.get_running_loop().time()
        self._splitter.feed(data)
        return True


async def capture(
    arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None, timeout: float
) -> tuple[int, list[str]]:
    """Run a short program and return its exit code and its lines (both outputs together).

    Raises:
        TimeoutError: it took longer than `timeout` seconds, and was ended.
        OSError: it could not be started.
    """
    lines: list[str] = []
    child = await Child.start(arguments, env=env, cwd=cwd, on_line=lines.append)
    try:
        code = await asyncio.wait_for(child.wait(), timeout)
    except BaseException:
        child.kill()
        child.close()
        raise
    child.close()
    return code, lines
