"""Programs that the cluster is made of, as children of the test process that never outlive it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil

from tests.support.waiting import eventually

T = TypeVar("T")

# For a child that is one of our own modules: `sys.executable, "-m", "tests.cluster.NAME"`.
OUR_MODULES = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
# Tied to its parent by PR_SET_PDEATHSIG, and not begun when the parent died before that was set. Programs do this, no
# `preexec_fn`: no Python runs between fork and exec.
_TIED = ["setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"']

# The kernel ties a child to the thread that started it, not to the process. This one lives as long as the process, so
# that a part may be started from any thread, also from one of an event loop's.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cluster-children")


class ClusterError(Exception):
    """A part of the cluster did not come up, or ended by itself; says what it wrote last."""


class Child:
    """One program with its own log; it is killed by the kernel when the test process dies, however that happens.

    Args:
        name: what it is called in messages; its log is `NAME.log` in `folder`.
        command: program and arguments. It may begin with `nsenter`: signals then go to what that started.
        folder: where it runs.
        environment: added to the test process's own.
    """

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._command = command
        self._folder = folder
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of what `start` started; 0 while nothing runs."""
        return self._process.pid if self._process and self._process.poll() is None else 0

    def start(self) -> Child:
        """Start it and return at once; its log is continued."""
        with self.log.open("ab") as log:
            self._process = _starter.submit(
                subprocess.Popen,
                [*_TIED, str(os.getpid()), *self._command],
                cwd=self._folder,
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ).result()
        return self

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it and to what it started itself; nothing happens when it has ended."""
        if self.pid:
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in [*psutil.Process(self.pid).children(recursive=True), psutil.Process(self.pid)]:
                    process.send_signal(number)

    def stop(self) -> None:
        """Kill it, and wait until it is gone. Stopping twice is fine."""
        if self._process:
            self.send(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def check(self) -> None:
        """Raise a ClusterError if it ended and nobody stopped it."""
        if self._process and not self.pid:
            raise ClusterError(f"{self.name} ended by itself:\n{self.tail()}")

    def until(self, look: Callable[[], T], *, what: str, timeout: float = 60.0) -> T:
        """Wait until `look` returns something true.

        Raises:
            ClusterError: it ended meanwhile, or the time is over; with the end of its log.
        """

        def alive_and() -> T:
            if not self.pid:
                raise ClusterError(f"{self.name} ended before {what}:\n{self.tail()}")
            return look()

        try:
            return eventually(alive_and, timeout=timeout, every=0.1, what=what)
        except AssertionError as error:
            raise ClusterError(f"{self.name}: {error}\n{self.tail()}") from error

    def tail(self, lines: int = 20) -> str:
        """The last lines of its log."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


@contextmanager
def run_folder(prefix: str) -> Iterator[Path]:
    """A folder for one run, locked while that lives; first removes those of runs that were killed."""
    clear(prefix)
    new = Path(tempfile.mkdtemp(prefix=f".{prefix}"))
    with (new / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Only now may others find it: without its lock it would look as if left behind.
        folder = new.rename(new.with_name(new.name.removeprefix(".")))
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def clear(prefix: str) -> None:
    """Remove the folders of runs that are no more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError), (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
