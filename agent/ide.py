"""Keeps code-server running: starts it beside the clone, knows when its page answers, starts it again when it dies."""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from agent import files, settings, transport
from agent.board import Board
from agent.environment import Environment
from agent.logs import Log
from agent.noise import NoiseFilter
from agent.problems import Problem
from agent.processes import Child
from agent.spec import Spec

# Looking for the socket costs next to nothing, and the first request is what makes code-server load its other half.
_POLL = 0.01
# An answer that is not the page comes from a server that will not be another one within milliseconds.
_POLL_ANSWERED = 0.5
_PAGE_TIMEOUT = 20.0
# Longest path of a Unix socket on Linux (unix(7)).
_SOCKET_PATH_LIMIT = 107
_BACKOFF = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
_STEADY = 60.0
_GIVE_UP_TELLING = 4
_NOT_STARTED = 127
_OK = 200
# Variables by these names are orders to code-server, Node or the loader: some keep the editor from starting at all.
_ORDERS = ("CODE_SERVER_", "VSCODE_", "NODE_", "ELECTRON_", "LD_")


@dataclasses.dataclass(frozen=True, slots=True)
class Paths:
    """Where the editor keeps its things, all on the volume but the socket."""

    socket: Path
    config: Path
    data: Path
    extensions: Path
    variables: Path


def paths(environment: Environment) -> Paths:
    """The places for this environment."""
    root = environment.state_dir / "ide"
    return Paths(
        environment.run_dir / "ide.sock",
        root / "config.yaml",
        root / "data",
        root / "extensions",
        root / "environment.json",
    )


def base_command(environment: Environment) -> list[str]:
    """code-server with the folders it works in."""
    places = paths(environment)
    return [
        *(environment.node, environment.ide, "--config", str(places.config)),
        *("--user-data-dir", str(places.data), "--extensions-dir", str(places.extensions)),
    ]


def command(environment: Environment, folder: Path) -> list[str]:
    """code-server as it serves the workspace."""
    return [
        *base_command(environment),
        *("--auth", "none", "--socket", str(paths(environment).socket)),
        # Who may come in is decided by the mode of the socket's folder: the gateway may be another user.
        *("--socket-mode", "666"),
        *("--disable-telemetry", "--disable-update-check", "--disable-workspace-trust"),
        *("--disable-getting-started-override", "--ignore-last-opened", "--reconnection-grace-time", "300"),
        *("--app-name", "Slipway", "--", str(folder)),
    ]


class Ide:
    """code-server under supervision.

    Attributes:
        ready: set once its page has answered and the folder is there, until the process ends.
    """

    def __init__(self, environment: Environment, spec: Spec, folder: Path, board: Board, log: Log) -> None:
        self._environment = environment
        self._spec = spec
        self._folder = folder
        self._board = board
        self._log = log
        self._places = paths(environment)
        self._child: Child | None = None
        self._stopping = False
        self._added: Mapping[str, str] = {}
        self._without_added = False
        self._opened = False
        self._content_there = asyncio.Event()
        self.ready = asyncio.Event()

    def content_is_there(self) -> None:
        """The folder can be opened: from now on an answering page means done."""
        self._content_there.set()

    async def run(self) -> None:
        """Keep it running until `stop`."""
        self._board.start("ide", "Starting the editor")
        if not self._prepare():
            return
        clock = asyncio.get_running_loop().time
        failures = 0
        while True:
            began = clock()
            try:
                code = await self._run_once()
            except (OSError, ValueError) as error:
                # No process or memory left to start it, which passes, or variables that no process can have.
                self._log.write("agent", f"The editor could not be started: {error}", level="error")
                code = _NOT_STARTED
            if self._stopping:
                return
            if self._added and not self._opened:
                self._leave_variables_out(code)
                continue
            failures = 0 if clock() - began > _STEADY else failures + 1
            self._tell_restart(failures, code)
            await asyncio.sleep(_BACKOFF[min(failures, len(_BACKOFF)) - 1] if failures else 0)

    async def stop(self, grace: float) -> None:
        """End it and everything it started, by force after `grace` seconds."""
        self._stopping = True
        if self._child is not None:
            await self._child.stop(grace)

    def _prepare(self) -> bool:
        """Write what it needs. False, with the condition failed, where it cannot work at all."""
        operator = "This is a fault of the platform: tell its operator."
        if not Path(self._environment.node).is_file() or not Path(self._environment.ide).is_file():
            self._board.fail("ide", Problem("ide_missing", "The editor is not installed on this machine.", operator))
            return False
        if len(str(self._places.socket).encode()) > _SOCKET_PATH_LIMIT:
            self._board.fail(
                "ide", Problem("run_dir_too_long", "The path of the editor's socket is too long.", operator)
            )
            return False
        files.write_atomically(self._places.config, "auth: none\ncert: false\n")
        settings.write_preset(self._places.data)
        return True

    def _repositorys_variables(self) -> dict[str, str]:
        """For what the editor starts by itself, such as language servers: terminals get theirs by its settings."""
        if self._without_added:
            return {}
        known = files.read_json(self._places.variables)
        return {name: str(value) for name, value in known.items() if not name.startswith(_ORDERS)}

    def _variables(self) -> dict[str, str]:
        variables = {**self._environment.variables, **self._added}
        variables.pop("NODE_OPTIONS", None)
        variables["VSCODE_PROXY_URI"] = self._spec.port_url
        return variables

    async def _run_once(self) -> int:
        """Start it, watch for its page, and return how it ended."""
        self._log.write("agent", "Starting the editor.", event="ide_started")
        self._added, self._opened = self._repositorys_variables(), False
        cwd = self._folder if self._folder.is_dir() else self._environment.home
        noise = NoiseFilter(self._line)
        self._child = child = await Child.start(
            command(self._environment, self._folder), env=self._variables(), cwd=cwd, on_line=noise.feed
        )
        watcher = asyncio.create_task(self._watch_page())
        try:
            code = await child.wait()
        finally:
            self.ready.clear()
            watcher.cancel()
            # Its children live on when only the first process was killed, and would hold the socket's successor back.
            child.kill()
            child.close()
            noise.close()
        return code

    def _line(self, text: str) -> None:
        if text.strip():
            self._log.write("ide", text)

    def _leave_variables_out(self, code: int) -> None:
        """It ended before it was open: from now on it starts without what the repository adds."""
        self._without_added = True
        text = (
            "The editor did not start with the variables that devcontainer.json sets, so it runs without them."
            " Terminals and commands still get them. Correct containerEnv or remoteEnv and restart the workspace."
        )
        self._log.write("agent", text, level="warning", event="variables_left_out", exit_code=code)
        self._board.notice("variables_left_out", text)

    def _tell_restart(self, failures: int, code: int) -> None:
        text = "The editor stopped unexpectedly and was restarted. Files on disk are safe; terminals were closed."
        self._log.write("agent", text, level="warning", event="ide_restarted", exit_code=code)
        if failures <= _GIVE_UP_TELLING:
            self._board.notice("ide_restarted", text)
            self._board.start("ide", "The editor stopped unexpectedly and is being restarted")
        else:
            next_step = (
                "The workspace's log has its output. Restart the workspace; if that does not help, tell the operator."
            )
            self._board.fail("ide", Problem("ide_keeps_failing", "The editor stops again and again.", next_step))

    async def _watch_page(self) -> None:
        while (status := await self._page_status()) != _OK:
            await asyncio.sleep(_POLL if status is None else _POLL_ANSWERED)
        if not self._content_there.is_set():
            self._board.start("ide", "The editor is up and waits for the repository")
            await self._content_there.wait()
        self._opened = True
        self.ready.set()
        self._board.done("ide", "The editor is open")
        self._log.write("agent", "The editor answers.", event="ide_ready")

    async def _page_status(self) -> int | None:
        """What the page answers; None while nobody does."""
        if not self._places.socket.exists():
            return None
        path = f"/?folder={quote(str(self._folder))}"
        address = f"unix:{self._places.socket}"
        try:
            return await asyncio.to_thread(transport.get_status, address, path, timeout=_PAGE_TIMEOUT)
        except (OSError, http.client.HTTPException):
            return None


def is_editor(environment: Environment) -> Callable[[str], bool]:
    """A test of command lines: whether a process is part of the editor or of one of its extensions."""
    entry = Path(environment.ide)
    # The entry script stands in `out/node` of the installation, whose other programs belong to the editor as well.
    root = entry.parents[2] if entry.parts[-3:-1] == ("out", "node") else entry
    places = (str(root), str(root.resolve()), str(paths(environment).extensions))
    return lambda line: any(place in line for place in places)


def remember_variables(environment: Environment, added: dict[str, str]) -> None:
    """Keep the repository's variables for the next time the editor starts: it starts before the repository is there."""
    files.write_json(paths(environment).variables, added)


def install_command(environment: Environment, extension: str) -> Sequence[str]:
    """code-server as it installs one extension: a path of a .vsix file or a gallery id."""
    return [*base_command(environment), "--install-extension", extension, "--force"]
