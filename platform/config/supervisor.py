"""Keeps the processes of the embedded default running, and ends them in order.

Workspaces are not among them: they are processes of their own that outlive the platform and are found again.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

from config.processes import Service

# Bytes of a service's log; one more of that length is kept beside it.
LONGEST_LOG = 20 * 1024 * 1024
START_SECONDS = 60.0
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
# What ran this long works: its next crash is the first of its kind.
STEADY_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1


class CannotStart(Exception):
    """The platform cannot come up; the message says why and what to do."""


def own_folder(path: Path, mode: int) -> None:
    """Make a folder of ours with these rights; one that is there already must be ours and nobody else's to write.

    Raises:
        CannotStart: it is a link or belongs to somebody else, who could then pose as a part of the platform.
    """
    path.mkdir(parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise CannotStart(f"{path} is not a folder of this account. Remove it, or set SLIPWAY_HOME to another place.")
    path.chmod(mode)


def only_one(home: Path) -> IO[str]:
    """Hold the data folder for this process; the lock ends with it, however it ends.

    Raises:
        CannotStart: another process holds it.
    """
    lock = os.fdopen(os.open(home / "up.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise CannotStart(
            "Slipway already runs with this data folder. Stop it first (Ctrl-C where it runs), or set SLIPWAY_HOME."
        ) from error
    return lock


def free_port(port: int, *, patience: float = 3.0) -> None:
    """Make sure that nobody else listens there; a predecessor that is still ending gets a moment.

    Raises:
        CannotStart: the port stays taken.
    """
    ends = time.monotonic() + patience
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if time.monotonic() > ends:
                    raise CannotStart(
                        f"Port {port} on 127.0.0.1 is taken. Choose another one: SLIPWAY_PORT=8001 make run"
                    ) from error
            else:
                return
        time.sleep(0.1)


def _die_with_parent() -> None:
    """In the child: a session of its own, so that Ctrl-C is ours to pass on, and an end when we are killed."""
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Running:
    """One service while it runs, and its next try when it does not."""

    def __init__(
        self, service: Service, environment: dict[str, str], logs: Path, root: Path, *, longest_log: int = LONGEST_LOG
    ) -> None:
        self.service = service
        self._environment = {**environment, **service.variables}
        self._log = logs / f"{service.name}.log"
        self._older_log = logs / f"{service.name}.log.1"
        self._longest_log = longest_log
        self._root = root
        self._pause = FIRST_PAUSE
        self._started = self._not_before = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; its output goes to its log file."""
        self._started = time.monotonic()
        self._set_log_aside()
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self.service.command,
                cwd=self._root,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Safe: this process has a single thread.
                preexec_fn=_die_with_parent,
            )

    def _log_is_long(self) -> bool:
        return self._log.exists() and self._log.stat().st_size >= self._longest_log

    def _set_log_aside(self) -> Path:
        """While nobody writes: make room for a new log where this one is long; says where the last words are."""
        if not self._log_is_long():
            return self._log
        self._log.replace(self._older_log)
        return self._older_log

    def _shorten_log(self) -> None:
        """While the process writes, and goes on appending to the same file. What it writes meanwhile may be lost."""
        if not self._log_is_long():
            return
        try:
            shutil.copyfile(self._log, self._older_log)
        except OSError:
            # Perhaps there is no room for a second file: then the room is worth more than the log.
            self._older_log.unlink(missing_ok=True)
        os.truncate(self._log, 0)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def tend(self, now: float, say: Callable[[str], None]) -> None:
        """Start it again if it ended; from crash to crash the pause before that grows. Keeps its log short.

        Args:
            now: monotonic seconds.
            say: tells the operator.
        """
        if self.alive:
            self._shorten_log()
            return
        if self._not_before == 0.0:
            code = self.process.returncode if self.process else None
            self._end_group()
            words = self._set_log_aside()
            say(f"{self.service.name} ended unexpectedly (exit code {code}); starting it again. See {words}")
            if now - self._started > STEADY_SECONDS:
                self._pause = FIRST_PAUSE
            self._not_before = now + self._pause
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
        if now >= self._not_before:
            self._not_before = 0.0
            self.start()

    def stop(self) -> None:
        """Ask it to end, and end it by force when it takes too long."""
        if self.process is None or not self.alive:
            return
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(self.service.stop_seconds)
        self._end_group()
        self.process.wait()

    def _end_group(self) -> None:
        """End what is left of it: a master that was killed leaves its workers behind."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:])


class Supervisor:
    """Starts services in order, keeps them running until SIGINT or SIGTERM, ends them in the opposite order."""

    def __init__(
        self,
        services: Sequence[Service],
        environment: dict[str, str],
        *,
        home: Path,
        root: Path,
        say: Callable[[str], None],
    ) -> None:
        logs = home / "log"
        logs.mkdir(parents=True, exist_ok=True)
        self._running = [Running(service, environment, logs, root) for service in services]
        self._say = say
        self._ended = False

    def install_signals(self) -> None:
        """From now on SIGINT and SIGTERM mean: end."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        self._ended = True

    def start(self) -> bool:
        """Start everything at once but what is late, and return when all of that works; False if told to end instead.

        Raises:
            CannotStart: something ended, or did not work within a minute.
        """
        waiting = [running for running in self._running if not running.service.late]
        for running in waiting:
            running.start()
        ends = time.monotonic() + START_SECONDS
        while waiting and not self._ended:
            for running in list(waiting):
                if not running.alive:
                    raise CannotStart(f"{running.service.name} ended at once:\n{running.last_words()}")
                if running.service.ready():
                    waiting.remove(running)
            if waiting and time.monotonic() > ends:
                name = waiting[0].service.name
                raise CannotStart(f"{name} did not come up within a minute:\n{waiting[0].last_words()}")
            time.sleep(0.03)
        return not self._ended

    def watch(self) -> None:
        """Start what is late, and keep everything running until told to end."""
        for running in self._running:
            if running.service.late and not self._ended:
                running.start()
        while not self._ended:
            now = time.monotonic()
            for running in self._running:
                running.tend(now, self._say)
            time.sleep(0.25)

    def stop(self) -> None:
        """End everything, the edge first and the broker last."""
        for running in reversed(self._running):
            if running.alive:
                self._say(f"Stopping {running.service.name} …")
                running.stop()
