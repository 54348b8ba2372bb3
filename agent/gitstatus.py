"""State of the checkout: branch, head, ahead, behind, uncommitted, unpushed. Looks, never writes, never takes locks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.board import Board
from agent.processes import capture
from agent.spec import Repository

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
    """Refreshes the board's git state.

    Args:
        repository: what it was cloned from. The tag or commit that was asked for may be on no branch of the remote;
            other tags say nothing, because those of the user are as local as the commits they point to.
    """

    def __init__(self, repository: Repository, folder: Path, env: Mapping[str, str], board: Board) -> None:
        tag = repository.ref if repository.ref.startswith("refs/tags/") else None
        known = [name for name in (repository.commit, tag) if name is not None]
        # Missing ones are ignored: HEAD of an empty repository, and what the user has removed.
        self._count = ("rev-list", "--count", "--ignore-missing", "HEAD", "--branches", "--not", "--remotes", *known)
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
            counting, counted = await self._git(*self._count)
        except (TimeoutError, OSError):
            self._board.set_git(None)
            return
        if code != 0 or counting != 0 or not counted[-1:] or not counted[-1].isdigit():
            self._board.set_git(None)
            return
        self._board.set_git({**parse_status(lines), "unpushed": int(counted[-1])})

    async def _git(self, *arguments: str) -> tuple[int, list[str]]:
        command = ["git", "-c", "core.quotePath=true", *arguments]
        return await capture(command, env=self._env, cwd=self._folder, timeout=_LIMIT)
