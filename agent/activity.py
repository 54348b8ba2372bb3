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
_Name = tuple[int, int]


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
        self._ticks: dict[_Name, int] = {}
        self._users: dict[_Name, bool] = {}
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
        return self._terminal(ours), self.busy(ours)

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

    def busy(self, ours: list[Proc]) -> bool:
        """Whether the user's programs among these have computed since the last call, which was an interval ago."""
        users: dict[_Name, bool] = {}
        ticks: dict[_Name, int] = {}
        used = 0
        for process in ours:
            name = (process.pid, process.began)
            users[name] = self._users[name] if name in self._users else self._is_users(process.pid)
            if users[name]:
                ticks[name] = process.ticks
                used += process.ticks - self._ticks.get(name, process.ticks)
        self._users, self._ticks = users, ticks
        return used / self._ticks_per_second > BUSY_SHARE * INTERVAL

    def _is_users(self, pid: int) -> bool:
        line = proctable.command_line(pid)
        # Started by the agent: a lifecycle command or its own git. Commands are the user's, git is not.
        own = pid in processes.tracked and line.startswith(("git ", "nice "))
        return not own and not self._is_editor(line)
