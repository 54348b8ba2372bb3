"""Runs the dev container's commands beside the open editor. Nobody waits for them; everybody can see how they went.

onCreate, updateContent and postCreate run until they have succeeded once on this volume, postStart at each start. A
command that fails keeps the later ones from running, as the specification says; it is tried again at the next start,
which makes "correct it and restart" a way out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from agent import files
from agent.board import Board
from agent.devcontainer import COMMANDS, Run, Step
from agent.logs import Log
from agent.problems import Problem
from agent.processes import Child

MARKER = "lifecycle.json"
EACH_START = frozenset({"postStartCommand"})

_NOT_STARTED = 127


def _arguments(run: Run) -> list[str]:
    return ["/bin/sh", "-c", run] if isinstance(run, str) else list(run)


class Lifecycle:
    """The chain of commands of one run.

    Args:
        env: the user's environment with the file's variables applied.
        grace: seconds between the polite and the forced end when the workspace stops.
    """

    def __init__(
        self, folder: Path, env: Mapping[str, str], state_dir: Path, board: Board, log: Log, *, grace: float
    ) -> None:
        self._folder = folder
        self._env = env
        self._marker = state_dir / MARKER
        self._board = board
        self._log = log
        self._grace = grace
        self._children: set[Child] = set()
        self._stopping = False

    async def run(self, commands: Mapping[str, tuple[Step, ...]]) -> None:
        """Run what is due, in order. Ends early, with the condition failed, where a command fails."""
        done = files.read_json(self._marker)
        due = [name for name in COMMANDS if name in commands and (name in EACH_START or not done.get(name))]
        if not due:
            self._board.done("commands", "No commands to run")
            return
        for name in due:
            self._board.start("commands", f"Running {name}")
            self._log.write(name, f"Running {name}", event="command_started")
            failed = await self._run_steps(name, commands[name])
            if self._stopping:
                return
            if failed is not None:
                self._fail(name, *failed)
                return
            if name not in EACH_START:
                files.write_json(self._marker, {**files.read_json(self._marker), name: True})
            self._log.write(name, f"{name} is done", event="command_done", exit_code=0)
        self._board.done("commands", "All commands are done")

    async def stop(self) -> None:
        """End whatever still runs, with its whole process group."""
        self._stopping = True
        await asyncio.gather(*(child.stop(self._grace) for child in tuple(self._children)))

    def _fail(self, name: str, step: str, code: int) -> None:
        which = f"{name} ({step})" if step else name
        how = f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"
        self._log.write(name, f"{which} {how}", level="error", event="command_failed", exit_code=code)
        next_step = "Its output is in the log. Correct the command in devcontainer.json and restart the workspace."
        self._board.fail("commands", Problem("command_failed", f"{which} {how}.", next_step))

    async def _run_steps(self, name: str, steps: tuple[Step, ...]) -> tuple[str, int] | None:
        """Run all steps at once and wait for all: the first that failed, with its exit code, or None."""
        codes = await asyncio.gather(*(self._run_step(name, step) for step in steps))
        return next(((step.name, code) for step, code in zip(steps, codes, strict=True) if code != 0), None)

    async def _run_step(self, name: str, step: Step) -> int:
        def line(text: str) -> None:
            self._log.write(name, f"[{step.name}] {text}" if step.name else text)

        try:
            child = await Child.start(_arguments(step.run), env=self._env, cwd=self._folder, on_line=line)
        except OSError as error:
            line(f"Could not be started: {error.strerror}")
            return _NOT_STARTED
        self._children.add(child)
        try:
            # Its pipe stays open: a server that the command left in the background keeps on logging.
            return await child.wait()
        finally:
            self._children.discard(child)
