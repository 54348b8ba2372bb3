"""Signs of life that only the workspace itself can see: terminals in use, and programs that compute."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from agent import processes, proctable
from agent.board import Board
from agent.proctable import Proc

INTERVAL = 5.0
"""Seconds between two looks."""
BUSY_SHARE = 0.05
"""Share of one core, over an interval, above which the user's programs count as busy."""

_PTS_MAJORS = range(136, 144)


def terminal_number(device: int) -> int | None:
    """Number of the pseudo terminal below /dev/pts; None when it is none (devices.txt of Linux)."""
    major, minor = os.major(device), os.minor(device)
    return (major - _PTS_MAJORS.start) * 256 + minor if major in _PTS_MAJORS else None


class Activity:
    """Looks at this workspace's processes every few seconds.

    Args:
        is_editor: whether a process of this command line is part of the editor, which computes by itself.
    """

    def __init__(self, board: Board, is_editor: Callable[[str], bool]) -> None:
        self._board = board
        self._is_editor = is_editor
        self._ticks: dict[int, int] = {}
        self._editor: dict[int, bool] = {}
        self._ticks_per_second = os.sysconf("SC_CLK_TCK")

    async def run(self) -> None:
        """Look until cancelled; collects ended orphans on the way."""
        while True:
            await asyncio.sleep(INTERVAL)
            terminal, busy = await asyncio.to_thread(self._look)
            if terminal is not None:
                self._board.seen("terminal", terminal)
            if busy:
                self._board.seen("processes")

    def _look(self) -> tuple[float | None, bool]:
        everything = proctable.table()
        proctable.reap_orphans(everything)
        ours = [everything[pid] for pid in proctable.descendants(everything, os.getpid())]
        return self._terminal(ours), self._busy(ours)

    @staticmethod
    def _terminal(ours: list[Proc]) -> float | None:
        """Seconds since input or output in any terminal of ours."""
        numbers = {terminal_number(process.terminal) for process in ours} - {None}
        ages = []
        for number in numbers:
            try:
                status = Path("/dev/pts", str(number)).stat()
            except OSError:
                continue
            ages.append(time.time() - max(status.st_atime, status.st_mtime))
        return max(min(ages), 0.0) if ages else None

    def _busy(self, ours: list[Proc]) -> bool:
        used = 0
        ticks: dict[int, int] = {}
        for process in ours:
            if self._is_users(process):
                ticks[process.pid] = process.ticks
                used += process.ticks - self._ticks.get(process.pid, process.ticks)
        self._ticks = ticks
        return used / self._ticks_per_second > BUSY_SHARE * INTERVAL

    def _is_users(self, process: Proc) -> bool:
        if process.pid in processes.tracked and process.pid not in self._editor:
            # Started by the agent: a lifecycle command or its own git. Commands are the user's, git is not.
            line = proctable.command_line(process.pid)
            self._editor[process.pid] = self._is_editor(line) or line.startswith(("git ", "nice "))
        if process.pid not in self._editor:
            self._editor[process.pid] = self._is_editor(proctable.command_line(process.pid))
        return not self._editor[process.pid]
