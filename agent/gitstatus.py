"""State of the checkout: branch, head, ahead, behind, uncommitted, unpushed. Looks, never writes, never takes locks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.board import Board
from agent.processes import capture

_LIMIT = 15.0
# A look may cost this many times less than the pause after it.
_SHARE = 10


def parse_status(lines: Sequence[str]) -> dict[str, Any]:
    """Read `git status --porcelain=v2 --branch` (git-status(1)). `uncommitted` counts files; numbers are 0 or more."""
    status: dict[str, Any] = {"branch": None, "head": None, "ahead": 0, "behind": 0, "uncommitted": 0}
    for line in lines:
        match line.split(" "):
            case ["#", "branch.oid", oid] if oid != "(initial)":
                status["head"] = oid
            case ["#", "branch.head", *name] if name != ["(detached)"]:
                status["branch"] = " ".join(name)
            case ["#", "branch.ab", ahead, behind]:
                status["ahead"], status["behind"] = int(ahead), -int(behind)
            case ["1" | "2" | "u" | "?", *_]:
                status["uncommitted"] += 1
            case _:
                continue
    return status


class GitStatus:
    """Refreshes the board's git state."""

    def __init__(self, folder: Path, env: Mapping[str, str], board: Board) -> None:
        self._folder = folder
        self._env = {**env, "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1"}
        self._board = board

    async def run(self, interval: float) -> None:
        """Look every `interval` seconds, and less often where a look is slow."""
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            await self.refresh()
            await asyncio.sleep(max(interval, (clock() - began) * _SHARE))

    async def refresh(self) -> None:
        """Look once. What cannot be told in time is reported as not known."""
        try:
            code, lines = await self._git("status", "--porcelain=v2", "--branch")
            if code != 0:
                self._board.set_git(None)
                return
            _, counted = await self._git("rev-list", "--count", "--branches", "--not", "--remotes")
        except (TimeoutError, OSError):
            self._board.set_git(None)
            return
        unpushed = int(counted[0]) if counted and counted[0].isdigit() else 0
        self._board.set_git({**parse_status(lines), "unpushed": unpushed})

    async def _git(self, *arguments: str) -> tuple[int, list[str]]:
        command = ["git", "-c", "core.quotePath=true", *arguments]
        return await capture(command, env=self._env, cwd=self._folder, timeout=_LIMIT)
