"""Running git against an address that somebody typed: no prompts, no helpers, a time limit and bounded output."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from kernel.errors import ClusterFault

MAX_ERROR_BYTES = 16 * 1024
MAX_KNOWN_HOSTS_BYTES = 1024 * 1024
"""Some thousand servers. Whoever may name an address adds to the file; a full one begins anew."""

_CHUNK = 64 * 1024
_LINE_BYTES = 400
"""On average at most: a hash, a tab and the longest name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Output:
    """What git printed.

    Attributes:
        code: exit code; 0 as well where we ended git because it had printed enough.
        cut: whether there was more.
    """

    code: int
    stdout: str
    stderr: str
    cut: bool


class TimedOutError(Exception):
    """git took too long and was ended, with everything it had started."""


@dataclasses.dataclass(frozen=True, slots=True)
class Git:
    """How git is run: as nobody in particular, so that an address gets no more than what it shows to everybody.

    Attributes:
        protocols: what git itself may speak, whatever an address or a redirect says.
        home: takes the place of the account's own home, whose ~/.netrc, keys and settings are the operator's. Made when
            it is missing; ssh keeps there which servers it has seen.
        connect_timeout: seconds for ssh to reach a server.
    """

    protocols: Sequence[str]
    home: Path
    connect_timeout: int = 5

    def run(self, arguments: Sequence[str], *, timeout: float, max_lines: int) -> Output:
        """Run `git <arguments>` and collect up to `max_lines` lines.

        Raises:
            TimedOutError: after `timeout` seconds.
            ClusterFault: `git_missing`.
        """
        program = shutil.which("git")
        if program is None:
            raise ClusterFault(
                "git_missing", "Git is not installed on the server.", "Ask the administrator to install git."
            )
        command = [program, "-c", "credential.helper=", *arguments]
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment(program),
            cwd="/",
            start_new_session=True,
        ) as process:
            try:
                return _collect(process, time.monotonic() + timeout, max_lines)
            finally:
                # Also after success: ssh or a remote helper may outlive git itself.
                _end(process)

    def _environment(self, program: str) -> dict[str, str]:
        return {
            "PATH": f"{Path(program).parent}{os.pathsep}{os.defpath}",
            "HOME": str(self.home),
            # Messages are told apart by their words.
            "LC_ALL": "C",
            "GIT_ALLOW_PROTOCOL": ":".join(self.protocols),
            "GIT_TERMINAL_PROMPT": "0",
            # An answer to every question for a user name or password: nothing.
            "GIT_ASKPASS": "true",
            "SSH_ASKPASS": "true",
            "GIT_SSH_COMMAND": self._ssh(),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
        }

    def _ssh(self) -> str:
        # ssh asks the system for the account's home and passes HOME over: each thing that lies there is named.
        known_hosts = str(self._known_hosts()).replace("%", "%%")
        options = [
            *("BatchMode=yes", "NumberOfPasswordPrompts=0", f"ConnectTimeout={self.connect_timeout}"),
            *("IdentitiesOnly=yes", "IdentityFile=none", "IdentityAgent=none"),
            *("StrictHostKeyChecking=accept-new", f'UserKnownHostsFile="{known_hosts}"'),
        ]
        return shlex.join(["ssh", "-F", os.devnull, *(part for option in options for part in ("-o", option))])

    def _known_hosts(self) -> Path:
        file = self.home / "known_hosts"
        # Without the folder git has no home at all, which is as good; ssh then remembers nothing.
        with contextlib.suppress(OSError):
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            if file.stat().st_size > MAX_KNOWN_HOSTS_BYTES:
                file.unlink()
        return file


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


class _Printed:
    """What the process has printed so far."""

    def __init__(self, process: subprocess.Popen[bytes], max_lines: int) -> None:
        self._process = process
        self._max_lines = max_lines
        self._out, self._err, self._lines = bytearray(), bytearray(), 0

    def take(self, stream: object, chunk: bytes) -> None:
        if stream is self._process.stdout:
            self._out += chunk
            self._lines += chunk.count(b"\n")
        elif len(self._err) < MAX_ERROR_BYTES:
            self._err += chunk

    def is_enough(self) -> bool:
        return self._lines > self._max_lines or len(self._out) > self._max_lines * _LINE_BYTES

    def output(self, code: int, *, cut: bool) -> Output:
        lines = bytes(self._out).split(b"\n")[: self._max_lines]
        return Output(code, _text(b"\n".join(lines)), _text(self._err), cut)


def _collect(process: subprocess.Popen[bytes], deadline: float, max_lines: int) -> Output:
    printed = _Printed(process, max_lines)
    with selectors.DefaultSelector() as selector:
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            for key in _ready(selector, deadline):
                chunk = os.read(key.fd, _CHUNK)
                printed.take(key.fileobj, chunk)
                if not chunk:
                    selector.unregister(key.fileobj)
            if printed.is_enough():
                return printed.output(0, cut=True)
    try:
        return printed.output(process.wait(max(0.0, deadline - time.monotonic())), cut=False)
    except subprocess.TimeoutExpired as error:
        raise TimedOutError from error


def _ready(selector: selectors.BaseSelector, deadline: float) -> list[selectors.SelectorKey]:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimedOutError
    return [key for key, _ in selector.select(left)]


def _text(data: bytes | bytearray) -> str:
    return bytes(data).decode("utf-8", "surrogateescape")
