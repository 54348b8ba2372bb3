"""Puts the parts together: the editor and the clone first, everything else once those are under way."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import os
import signal
import traceback
from collections.abc import Coroutine
from typing import Any

from agent import devcontainer, environment, files, git_config, git_errors, ide, kubeconfig, proctable, settings, spec
from agent.activity import Activity
from agent.board import Board, Part
from agent.content import Content, choose_folder
from agent.devcontainer import DevContainer
from agent.door import Door
from agent.environment import Environment
from agent.extensions import Extensions
from agent.git import Git
from agent.gitstatus import GitStatus
from agent.ide import Ide
from agent.lifecycle import Lifecycle
from agent.logs import Log
from agent.ports import Ports
from agent.problems import Problem
from agent.processes import become_subreaper
from agent.report import Reporter
from agent.spec import Spec

# Commands compete with the editor's start for the processor; after this many seconds they get their turn anyway.
_EDITOR_FIRST = 20.0
_SWEEP_GRACE = 1.0
_SWEEP_POLL = 0.05
_KILL_POLL = 0.01
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_STOPPED_IN_ORDER = frozenset({"ide", "commands"})
_FINAL_REPORT = 1.5


class Workspace:
    """All parts of one run."""

    def __init__(self, env: Environment, document: Spec, log: Log) -> None:
        self._env = env
        self._spec = document
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()
        self.stop_asked = asyncio.Event()
        self.hurry = asyncio.Event()
        self.board = board = Board()
        self.folder = folder = choose_folder(document.repository, env.home, env.state_dir)
        git = Git(env.variables, stall=env.timing.stall, local=document.repository.is_local, log=log)
        self._content = Content(document.repository, folder, env.state_dir, git, board, log, retry=env.timing.retry)
        self._ide = Ide(env, document, folder, board, log)
        self._ports = Ports(env.run_dir / "ports", f"{environment.MARKER}={env.spec_path}", board)
        self._status = GitStatus(document.repository, folder, git.env, board)
        self._lifecycle: Lifecycle | None = None
        secrets = files.read_json(env.secrets_path) if env.secrets_path is not None else {}
        self._reporter = self._make_reporter(str(secrets.get("run_token", "")))
        key = str(secrets.get("door_key", ""))
        self._door = Door(key, env.run_dir, log, line_seconds=env.timing.door_line)

    def _make_reporter(self, token: str) -> Reporter | None:
        env = self._env
        if env.platform is None or env.secrets_path is None:
            return None
        return Reporter(env.platform, token, self._spec, self.board, env.timing, self._log)

    async def run(self) -> None:
        """Live until asked to stop, then stop in order."""
        if self._open_door():
            self._spawn("ide", self._ide.run(), "ide")
        self._spawn("content", self._open(), "content")
        if self._reporter is not None:
            self._spawn("report", self._reporter.run())
        become_subreaper()
        self._spawn("ports", self._ports.run())
        self._spawn("activity", Activity(self.board, ide.is_editor(self._env)).run())
        await self.stop_asked.wait()
        await self._stop()

    def _open_door(self) -> bool:
        """Let the gateway in where it comes from another machine.

        False, with the condition failed, where that cannot be: an editor that nobody can reach must not count as open.
        """
        if self._env.door is None:
            return True
        try:
            self._door.open(self._env.door)
        except Problem as problem:
            self._log.write("agent", problem.message, level="error", event=problem.code)
            self.board.fail("ide", problem)
            return False
        self._spawn("door", self._door.run())
        return True

    def _spawn(self, name: str, work: Coroutine[Any, Any, None], part: Part | None = None) -> None:
        task = asyncio.create_task(self._guard(name, work, part), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, name: str, work: Coroutine[Any, Any, None], part: Part | None) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - the boundary between parts: one must not end the others.
            self._tell_fault(name, part, error)

    def _tell_fault(self, name: str, part: Part | None, error: Exception) -> None:
        self._log.write("agent", "".join(traceback.format_exception(error)), level="error", event="part_failed")
        operator = "Restart the workspace. If that does not help, tell the operator."
        if part is not None and isinstance(error, OSError) and error.errno in _NO_SPACE:
            repository = self._spec.repository
            self.board.fail(part, git_errors.problem("disk_full", repository.full_name, repository.ref))
        elif part is not None:
            self.board.fail(part, Problem("agent_fault", f"A part of the workspace ({name}) failed.", operator))
        else:
            self.board.notice("agent_fault", f"A part of the workspace ({name}) failed. {operator}")

    async def _open(self) -> None:
        """From the repository to a workspace that is complete."""
        self._set_git_up()
        self._set_kubectl_up()
        try:
            await self._content.ensure()
        except Problem as problem:
            self._log.write("agent", problem.message, level="error", event=problem.code)
            self.board.fail("content", problem)
            return
        container = await self._take_devcontainer()
        self._ide.content_is_there()
        self._spawn("git status", self._status.run(self._env.timing.git_status))
        try:
            await asyncio.wait_for(self._ide.ready.wait(), _EDITOR_FIRST)
        except TimeoutError:
            self._log.write("agent", "The editor is slow to start; going on without it.", level="warning")
        self._spawn("history", self._content.complete())
        if container is not None:
            self._spawn("extensions", self._extensions(container), "extensions")
            self._spawn("commands", self._commands(container), "commands")

    def _set_git_up(self) -> None:
        """Git's settings for the user. Without them the editor still opens: there the owner can mend what is wrong."""
        try:
            git_config.install(self._env, self._spec, self.folder)
        except (OSError, RuntimeError, ValueError) as error:
            text = (
                "Git's settings could not be brought into ~/.gitconfig, so your name and your access to the repository"
                " may be missing. Make room on the disk, or move that file away, and restart the workspace."
            )
            self._tell(text, "gitconfig_unusable", error)

    def _set_kubectl_up(self) -> None:
        """Access to the dev cluster, where there is one. Without it everything else goes on."""
        if self._spec.dev_cluster is None:
            return
        try:
            kubeconfig.install(self._env, self._spec.dev_cluster)
        except OSError as error:
            text = (
                "kubectl could not be set up for the dev cluster. Make room on the disk, or move ~/.kube away, and"
                " restart the workspace."
            )
            self._tell(text, "kubeconfig_unwritable", error)

    def _tell(self, text: str, code: str, error: Exception) -> None:
        self._log.write("agent", f"{text} ({error})", level="warning", event=code)
        self.board.notice(code, text)

    async def _take_devcontainer(self) -> DevContainer | None:
        """Do what the repository asks for. None, with the condition failed, where that cannot be done."""
        try:
            return await self._read_devcontainer()
        except Problem as problem:
            self._log.write("agent", f"{problem.message} {problem.next_step}", level="error", event=problem.code)
            self.board.fail("commands", problem)
        except Exception as error:  # noqa: BLE001 - nothing that a repository asks for may close the editor's door.
            self._tell_fault("devcontainer.json", "commands", error)
        self.board.done("extensions", "Not looked for, as devcontainer.json could not be used")
        return None

    async def _read_devcontainer(self) -> DevContainer:
        """What the repository asks for, with its settings in place.

        Raises:
            Problem: its file is broken.
        """
        # In a thread, because a long file with comments takes seconds, and the editor must not wait for it.
        found = await asyncio.to_thread(devcontainer.load, self.folder, self._env.variables, self._spec.workspace_id)
        container = found or DevContainer()
        self._tell_ignored(container)
        try:
            await self._apply_settings(container)
        except OSError as error:
            text = (
                "The repository's settings could not be written, so the editor goes on with the last ones. Make room on"
                " the disk and restart the workspace."
            )
            self._tell(text, "settings_unwritable", error)
        return container

    async def _apply_settings(self, container: DevContainer) -> None:
        added: dict[str, str | None] = {**container.container_env, **container.remote_env}
        data = ide.paths(self._env).data
        if not await asyncio.to_thread(settings.apply_machine, data, container.settings, added):
            text = "The machine settings file is not valid JSON, so the repository's settings were not applied."
            self._log.write("agent", text, level="warning", event="settings_unreadable")
        ide.remember_variables(self._env, {name: value for name, value in added.items() if value is not None})

    def _tell_ignored(self, container: DevContainer) -> None:
        if not container.ignored:
            return
        names = ", ".join(container.ignored)
        self._log.write("agent", f"devcontainer.json: not used here: {names}.", level="warning", event="keys_ignored")
        image = [name for name in container.ignored if name in devcontainer.IMAGE_KEYS]
        if image:
            text = (
                f"devcontainer.json asks for a container of its own ({', '.join(image)}). This workspace runs on the"
                " machine's own tools instead; everything else in the file is used."
            )
            self.board.notice("image_ignored", text)

    async def _extensions(self, container: DevContainer) -> None:
        await Extensions(self._env, self.folder, self.board, self._log).install(container.extensions)

    async def _commands(self, container: DevContainer) -> None:
        variables = container.environment(self._env.variables)
        self._lifecycle = Lifecycle(
            self.folder,
            variables,
            self._env.state_dir,
            self.board,
            self._log,
            grace=self._env.timing.command_grace,
        )
        await self._lifecycle.run(container.commands)

    async def _stop(self) -> None:
        """Commands and editor at once, then whatever is left, then the last report."""
        self._log.write("agent", "Stopping.", event="stopping")
        for task in tuple(self._tasks):
            if task.get_name() not in _STOPPED_IN_ORDER:
                task.cancel()
        orderly = asyncio.create_task(self._stop_in_order())
        hurried = asyncio.create_task(self.hurry.wait())
        await asyncio.wait({orderly, hurried}, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        orderly.cancel()
        await self._sweep()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(orderly, hurried, *self._tasks, return_exceptions=True)
        if self._reporter is not None and not self.hurry.is_set():
            await self._reporter.send(_FINAL_REPORT)
        self._log.write("agent", "Stopped.", event="stopped")
        # A thread may hang in a request that nobody answers, and leaving the ordinary way would wait for it.
        os._exit(0)

    async def _sweep(self) -> None:
        """End by force what is left, until nothing is: a process may have started another one meanwhile."""
        deadline = asyncio.get_running_loop().time() + _SWEEP_GRACE
        while (living := proctable.living_descendants()) and asyncio.get_running_loop().time() < deadline:
            for pid in living:
                proctable.send(pid, signal.SIGKILL)
            await asyncio.sleep(_KILL_POLL)

    async def _stop_in_order(self) -> None:
        stops = [self._ide.stop(self._env.timing.ide_grace), self._ports.close(), self._door.close()]
        if self._lifecycle is not None:
            stops.append(self._lifecycle.stop())
        await asyncio.gather(*stops)
        # What went into the background, or left its session, is asked politely as well.
        for pid in proctable.living_descendants():
            proctable.send(pid, signal.SIGTERM)
        deadline = asyncio.get_running_loop().time() + _SWEEP_GRACE
        while proctable.living_descendants() and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(_SWEEP_POLL)


async def _live(env: Environment, document: Spec, log: Log) -> None:
    workspace = Workspace(env, document, log)
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if workspace.stop_asked.is_set():
            workspace.hurry.set()
        workspace.stop_asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    await workspace.run()


def run() -> int:
    """Run the agent until it is told to stop.

    Exit code 0 after an orderly stop, 78 when what it was handed makes no sense, 1 when it could not run otherwise.
    """
    log = Log()
    os.umask(0o022)
    try:
        env = environment.read()
        document = spec.parse(env.spec_path.read_bytes())
        if document.dev_cluster is not None:
            env = dataclasses.replace(env, variables={**env.variables, **kubeconfig.variables(env)})
        env.state_dir.mkdir(parents=True, exist_ok=True)
        env.run_dir.mkdir(parents=True, exist_ok=True)
        asyncio.run(_live(env, document, log))
    except Problem as problem:
        log.write("agent", problem.message, level="error", event=problem.code)
        return os.EX_CONFIG
    except Exception as error:  # noqa: BLE001 - the process's own boundary: the log only takes JSON lines.
        log.write("agent", "".join(traceback.format_exception(error)), level="error", event="agent_crashed")
        return 1
    return 0
