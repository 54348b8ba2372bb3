"""Running git safely: no prompts, few protocols, no option injection, and never for ever."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.logs import Log
from agent.processes import Child

_TAIL = 40
_STEP = re.compile(r"^(?:remote: )?([A-Z][a-z]+ [a-z]+):\s+(\d+)% ")
# The share of a transfer at which each of git's own steps begins and ends.
_SHARES: Mapping[str, tuple[float, float]] = {
    "Counting objects": (0.0, 0.05),
    "Compressing objects": (0.05, 0.1),
    "Receiving objects": (0.1, 0.8),
    "Resolving deltas": (0.8, 0.9),
    "Updating files": (0.9, 1.0),
}


def parse_progress(text: str) -> float | None:
    """How far a transfer is, 0 to 1, from one line of git's progress output; None when it is no such line."""
    match = _STEP.match(text)
    share = _SHARES.get(match.group(1)) if match else None
    if match is None or share is None:
        return None
    return share[0] + (share[1] - share[0]) * int(match.group(2)) / 100


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """How a run of git ended. `lines` are its last ones."""

    code: int
    lines: list[str]
    stalled: bool


class Git:
    """Runs git for the agent.

    Args:
        variables: environment of the user's processes.
        stall: seconds without any output or transfer after which a run is ended.
        local: the repository is on this machine, so the `file` protocol is allowed.
    """

    def __init__(self, variables: Mapping[str, str], *, stall: float, local: bool, log: Log) -> None:
        self._stall = stall
        self._log = log
        self._env = {
            **{name: value for name, value in variables.items() if not name.startswith("GIT_")},
            "LC_ALL": "C.UTF-8",
            "LANGUAGE": "C",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "true",
            "SSH_ASKPASS": "true",
            "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o ConnectTimeout=20",
            "GIT_ALLOW_PROTOCOL": "https:http:ssh:file" if local else "https:http:ssh",
        }
        # One byte a second: a server that packs a large repository sends hardly more than signs of life.
        self._options = [
            *("-c", "protocol.ext.allow=never"),
            *("-c", "http.lowSpeedLimit=1", "-c", f"http.lowSpeedTime={max(round(stall), 1)}"),
            *("-c", "advice.detachedHead=false", "-c", "gc.auto=0", "-c", "core.askPass=true"),
        ]

    @property
    def env(self) -> Mapping[str, str]:
        """Environment that git runs with."""
        return self._env

    async def run(
        self, *arguments: str, cwd: Path, on_progress: Callable[[float], None] | None = None, gently: bool = False
    ) -> Result:
        """Run git and write what it says to the log as `clone`.

        Args:
            on_progress: called with 0 to 1.
            gently: at low priority, for work that nobody waits for.

        Raises:
            OSError: git or the folder is missing.
        """
        tail: collections.deque[str] = collections.deque(maxlen=_TAIL)

        def line(text: str) -> None:
            tail.append(text)
            if text.strip():
                self._log.write("clone", text)
            transient(text)

        def transient(text: str) -> None:
            value = parse_progress(text)
            if value is not None and on_progress is not None:
                on_progress(value)

        prefix = ["nice", "-n", "10"] if gently else []
        child = await Child.start(
            [*prefix, "git", *self._options, *arguments], env=self._env, cwd=cwd, on_line=line, on_transient=transient
        )
        try:
            stalled = await self._watch(child)
            code = await child.wait()
        finally:
            child.kill()
            child.close()
        return Result(code, list(tail), stalled)

    async def _watch(self, child: Child) -> bool:
        """Wait for the end; True when nothing moved for too long and it had to be ended."""
        clock = asyncio.get_running_loop().time
        ended = asyncio.create_task(child.wait())
        while True:
            left = child.last_output + self._stall + 1.0 - clock()
            if left <= 0:
                await child.stop(1.0)
                return True
            done, _ = await asyncio.wait({ended}, timeout=left)
            if done:
                return False
