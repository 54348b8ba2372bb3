"""Installs the repository's extensions: .vsix files from the checkout, gallery ids where there is a gallery."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

from agent import files, ide
from agent.board import Board
from agent.environment import Environment
from agent.logs import Log
from agent.noise import NoiseFilter
from agent.problems import Problem
from agent.processes import Child

MARKER = "extensions.json"
GALLERY = "EXTENSIONS_GALLERY"

_SOURCE = "extensions"
_LIMIT = 180.0


class Extensions:
    """Installs what a devcontainer.json names, each version once."""

    def __init__(self, environment: Environment, folder: Path, board: Board, log: Log) -> None:
        self._environment = environment
        self._folder = folder
        self._board = board
        self._log = log
        self._marker = environment.state_dir / MARKER

    async def install(self, names: Sequence[str]) -> None:
        """Install all; those that fail are told and keep none of the others back."""
        has_gallery = GALLERY in self._environment.variables
        local = [name for name in names if name.endswith(".vsix")]
        gallery = [name for name in names if not name.endswith(".vsix") and not name.startswith("-")]
        skipped = [] if has_gallery else gallery
        if skipped:
            self._tell_skipped(skipped)
        wanted = local + (gallery if has_gallery else [])
        if not wanted:
            self._board.done("extensions", self._skipped_words(skipped) or "No extensions to install")
            return
        self._board.start("extensions", "Installing extensions")
        failed = [name for name in wanted if not await self._install(name)]
        if failed:
            message = f"Not installed: {', '.join(failed)}."
            next_step = "The log has the reason. Check that the file is in the repository and is a valid .vsix."
            self._board.fail("extensions", Problem("extension_failed", message, next_step))
        else:
            self._board.done("extensions", " ".join(filter(None, ["Installed.", self._skipped_words(skipped)])))

    @staticmethod
    def _skipped_words(skipped: Sequence[str]) -> str:
        return f"Not installed, as there is no extension gallery here: {', '.join(skipped)}." if skipped else ""

    def _tell_skipped(self, skipped: Sequence[str]) -> None:
        text = f"{self._skipped_words(skipped)} Put their .vsix files into the repository and name those instead."
        self._log.write(_SOURCE, text, level="warning", event="extensions_skipped")
        self._board.notice("extensions_skipped", text)

    async def _install(self, name: str) -> bool:
        target, key = name, name
        if name.endswith(".vsix"):
            path = self._file(name)
            if path is None:
                self._log.write(_SOURCE, f"{name} is not a file of the repository", level="error")
                return False
            target, key = str(path), f"{name}:{await asyncio.to_thread(_digest, path)}"
        installed = files.read_json(self._marker)
        if key in installed:
            return True
        self._log.write(_SOURCE, f"Installing {name}")
        if await self._run(target) != 0:
            return False
        files.write_json(self._marker, {**installed, key: True})
        return True

    def _file(self, name: str) -> Path | None:
        """The file of the checkout that is meant; None when there is none, or it lies elsewhere."""
        try:
            path = (self._folder / name).resolve()
            inside = path.is_relative_to(self._folder.resolve())
            return path if inside and path.is_file() else None
        except (OSError, RuntimeError, ValueError):
            # No name that a file could have, or links that lead in a circle.
            return None

    async def _run(self, target: str) -> int:
        noise = NoiseFilter(lambda text: self._log.write(_SOURCE, text) if text.strip() else None)
        child = await Child.start(
            ide.install_command(self._environment, target),
            env=self._environment.variables,
            cwd=self._environment.home,
            on_line=noise.feed,
        )
        try:
            return await asyncio.wait_for(child.wait(), _LIMIT)
        except TimeoutError:
            self._log.write(_SOURCE, "The installation took too long and was ended", level="error")
            return -1
        finally:
            child.kill()
            child.close()
            noise.close()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
