"""Brings the repository into the home: once, whole or not at all.

First a shallow fetch of exactly the wanted ref: one commit's trees and files in a single answer is the least that
gives a usable work tree. A blobless clone sends all of history's trees first and needs a second round for the files,
so it is slower by as much as the history is long. History, tags and other branches follow once the editor is open,
without old file contents (blobless), which git then fetches by itself where they are looked at.

Everything happens in a folder beside the target that is renamed at the end, so that a kill at any moment leaves either
no checkout or a complete one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from pathlib import Path

from agent import files, git_errors
from agent.board import Board
from agent.git import Git, Result
from agent.logs import Log
from agent.problems import Problem
from agent.spec import Repository

MARKER = "content.json"
RETRIES = 2

_SOURCE = "clone"
_PROOF = "slipway-complete"


def choose_folder(repository: Repository, home: Path, state_dir: Path) -> Path:
    """Where the checkout is, or is to be.

    One that is there stays where it is, whatever its repository is called by now: in the folder of `home` that the
    marker names.
    """
    known = files.read_json(state_dir / MARKER)
    name = Path(str(known.get("folder", ""))).name
    folder = home / name
    # The home itself may be elsewhere by now, so only the name counts.
    done = known.get("status") == "done"
    try:
        there = name not in {"", ".."} and (folder.is_dir() if done else _is_complete(folder))
    except OSError:
        # No name that a folder could have.
        there = False
    return folder if there else home / repository.folder


def _is_complete(folder: Path) -> bool:
    return (folder / ".git" / _PROOF).exists()


class Content:
    """The checkout of one workspace.

    Args:
        folder: where it is to be.
        state_dir: where the marker is kept.
        retry: seconds before the first repetition.
    """

    def __init__(
        self, repository: Repository, folder: Path, state_dir: Path, git: Git, board: Board, log: Log, *, retry: float
    ) -> None:
        self._repository = repository
        self.folder = folder
        self._marker = state_dir / MARKER
        self._git = git
        self._board = board
        self._log = log
        self._retry = retry

    async def ensure(self) -> None:
        """Make sure the checkout is there. One that is there is never touched.

        Raises:
            Problem: it could not be had; says why and what to do.
        """
        name = self._repository.full_name
        if self._is_done():
            self._board.done("content", f"{name} is as you left it")
            return
        self._board.start("content", f"Cloning {name}")
        try:
            await self._clone_with_retries()
        except OSError as error:
            raise git_errors.classify([str(error)], name=name, ref=self._repository.ref) from error
        self._board.done("content", f"Cloned {name}")

    async def complete(self) -> None:
        """Fetch what the first transfer left out. To be called when nobody waits any more; failing is no problem."""
        if files.read_json(self._marker).get("history") == "done":
            return
        arguments = ["fetch", "--progress", "--tags", "--filter=blob:none", "--no-write-fetch-head", "--no-auto-gc"]
        if (self.folder / ".git" / "shallow").exists():
            arguments.append("--unshallow")
        result = await self._git.run(*arguments, "--", "origin", cwd=self.folder, gently=True)
        if result.code == 0:
            self._mark(history="done")
            self._log.write(_SOURCE, "History, tags and other branches are here.", event="history_done")
        else:
            text = "The rest of the history could not be fetched. It is tried again at the next start."
            self._log.write(_SOURCE, text, level="warning", event="history_failed")

    def _is_done(self) -> bool:
        if files.read_json(self._marker).get("status") == "done" and self.folder.is_dir():
            return True
        # A kill between the rename and the marker: the rename itself is the proof that all was complete.
        if _is_complete(self.folder):
            self._mark(status="done")
            return True
        return False

    def _mark(self, **changes: str) -> None:
        files.write_json(self._marker, {**files.read_json(self._marker), "folder": str(self.folder), **changes})

    @property
    def _leftover_prefix(self) -> str:
        return f".slipway-clone-{self.folder.name}."

    async def _clone_with_retries(self) -> None:
        for attempt in range(RETRIES + 1):
            # Each attempt has a folder of its own: a git that outlived a killed agent may still write to the last one.
            temporary = self.folder.with_name(f"{self._leftover_prefix}{os.getpid()}-{attempt}")
            await asyncio.to_thread(self._remove_leftovers)
            try:
                await self._clone(temporary)
                await asyncio.to_thread(self._put_in_place, temporary)
            except Problem as problem:
                await asyncio.to_thread(shutil.rmtree, temporary, ignore_errors=True)
                if not problem.temporary or attempt == RETRIES:
                    raise
                text = f"{problem.message} Trying again ({attempt + 1} of {RETRIES})."
                self._log.write(_SOURCE, text, level="warning", event="clone_retry")
                await asyncio.sleep(self._retry * 2**attempt)
            else:
                return

    def _remove_leftovers(self) -> None:
        for path in self.folder.parent.iterdir():
            if path.name.startswith(self._leftover_prefix) and path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)

    async def _clone(self, temporary: Path) -> None:
        temporary.mkdir(parents=True)
        await self._check(await self._git.run("init", "--quiet", "--initial-branch=main", cwd=temporary))
        remote = ("remote", "add", "--", "origin", self._repository.clone_url)
        await self._check(await self._git.run(*remote, cwd=temporary))
        ref = self._repository.ref
        if self._repository.commit and not self._repository.branch and not ref.startswith("refs/pull/"):
            await self._check_out_commit(temporary, self._repository.commit)
        elif ref.startswith("refs/pull/"):
            await self._check_out_pull(temporary, ref)
        elif ref.startswith("refs/tags/"):
            await self._fetch(temporary, f"+{ref}:{ref}")
            await self._check_out(temporary, "--detach", ref)
        else:
            await self._check_out_branch(temporary)
        await self._submodules(temporary)

    async def _check(self, result: Result) -> None:
        if result.code != 0 or result.stalled:
            name, ref = self._repository.full_name, self._repository.ref
            raise git_errors.classify(result.lines, name=name, ref=ref, stalled=result.stalled)

    async def _fetch(self, cwd: Path, refspec: str, *options: str) -> None:
        arguments = (
            "fetch",
            "--progress",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-auto-gc",
            *(options or ("--depth=1",)),
        )
        result = await self._git.run(*arguments, "--", "origin", refspec, cwd=cwd, on_progress=self._on_progress)
        await self._check(result)

    async def _check_out(self, cwd: Path, *arguments: str) -> None:
        command = ("checkout", "--progress", *arguments, "--")
        await self._check(await self._git.run(*command, cwd=cwd, on_progress=self._on_progress))

    def _on_progress(self, value: float) -> None:
        self._board.progress("content", value)

    async def _check_out_branch(self, cwd: Path) -> None:
        branch = self._repository.branch or self._repository.ref.removeprefix("refs/heads/")
        if branch == "HEAD":
            branch = await self._default_branch(cwd)
        try:
            await self._fetch(cwd, f"+refs/heads/{branch}:refs/remotes/origin/{branch}")
        except Problem as problem:
            if problem.code == "branch_not_found" and await self._is_empty(cwd):
                await self._start_empty(cwd, branch)
                return
            raise
        await self._check_out(cwd, "-B", branch, "--track", f"refs/remotes/origin/{branch}")

    async def _default_branch(self, cwd: Path) -> str:
        result = await self._git.run("ls-remote", "--symref", "--", "origin", "HEAD", cwd=cwd)
        await self._check(result)
        for line in result.lines:
            if line.startswith("ref: refs/heads/"):
                return line.removeprefix("ref: refs/heads/").partition("\t")[0]
        return "main"

    async def _is_empty(self, cwd: Path) -> bool:
        result = await self._git.run("ls-remote", "--exit-code", "--", "origin", cwd=cwd)
        # Exit code 2 is git's word for "reached, but nothing is there" (git-ls-remote(1)).
        return result.code == 2

    async def _start_empty(self, cwd: Path, branch: str) -> None:
        await self._check(await self._git.run("symbolic-ref", "HEAD", f"refs/heads/{branch}", cwd=cwd))
        self._board.notice("repository_empty", "The repository is still empty: your first push will fill it.")

    async def _check_out_pull(self, cwd: Path, ref: str) -> None:
        number = ref.split("/")[2]
        branch, tracking = f"pull/{number}", f"refs/remotes/origin/pull/{number}"
        await self._fetch(cwd, f"+{ref}:{tracking}")
        # With this, the branch has an upstream, and `git pull` brings what is pushed to the pull request later.
        settings = (("--add", "remote.origin.fetch", f"+{ref}:{tracking}"),)
        for setting in settings:
            await self._check(await self._git.run("config", *setting, cwd=cwd))
        await self._check_out(cwd, "-B", branch, "--track", tracking)

    async def _check_out_commit(self, cwd: Path, commit: str) -> None:
        try:
            await self._fetch(cwd, commit)
        except Problem as problem:
            if problem.code not in {"commit_not_found", "branch_not_found", "clone_failed"}:
                raise
            # A server that does not hand out commits by id: take its branches, then look for the commit there.
            await self._fetch(cwd, "+refs/heads/*:refs/remotes/origin/*", "--filter=blob:none")
        await self._check_out(cwd, "--detach", commit)

    async def _submodules(self, cwd: Path) -> None:
        if not (cwd / ".gitmodules").is_file():
            return
        command = ("submodule", "update", "--init", "--recursive", "--progress", "--jobs=2")
        result = await self._git.run(*command, "--depth=1", cwd=cwd)
        if result.code != 0 and not result.stalled:
            # Not every server hands out a lone commit.
            result = await self._git.run(*command, cwd=cwd)
        if result.code != 0:
            text = "Not all submodules could be fetched; see the log. `git submodule update --init` tries again."
            self._log.write(_SOURCE, text, level="warning", event="submodules_failed")
            self._board.notice("submodules_failed", text)

    def _put_in_place(self, temporary: Path) -> None:
        (temporary / ".git" / _PROOF).touch()
        with contextlib.suppress(OSError):
            self.folder.rmdir()
        if self.folder.exists() or self.folder.is_symlink():
            self._set_aside()
        # The folder's name is known before it is there: after a kill in between, the next start still finds it.
        self._mark(status="placing", history="")
        temporary.rename(self.folder)
        self._mark(status="done")

    def _set_aside(self) -> None:
        """Something of the user's is where the checkout belongs: it is kept under another name."""
        number = 1
        while (kept := self.folder.with_name(f"{self.folder.name}.kept-{number}")).exists():
            number += 1
        self.folder.rename(kept)
        text = f"There was already something named {self.folder.name} in the home folder. It was kept as {kept.name}."
        self._log.write("agent", text, level="warning", event="folder_kept")
        self._board.notice("folder_kept", text)
