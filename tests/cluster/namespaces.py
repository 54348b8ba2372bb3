"""A room of its own on this machine, for a node: networks, mounts and processes in it vanish with its first process."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil

from tests.cluster.children import Child, ClusterError

_NEW = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
# Programs of a node have folders that no option moves; what they write there stays in here.
_OWN_FOLDERS = """
mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/log && mkdir -p /run/var-lib/upper /run/var-lib/work &&
mount -t overlay overlay -o lowerdir=/var/lib,upperdir=/run/var-lib/upper,workdir=/run/var-lib/work /var/lib
"""


class Namespaces:
    """Network, mount and process namespaces, held by one small process; needs root.

    Should the test process be killed, the kernel kills that one, all others inside with it, and removes the rest.
    """

    def __init__(self, folder: Path, holder: Path) -> None:
        self._holder = holder
        self._child = Child("namespaces", ["unshare", *_NEW, str(holder)], folder)
        self._folder = folder
        self._first: psutil.Process | None = None

    @property
    def pid(self) -> int:
        """The first process inside, by its id outside."""
        assert self._first, "start it first"
        return self._first.pid

    def start(self) -> None:
        """Make them, with folders of their own for what is written to fixed places."""
        self._child.start()
        self._first = self._child.until(self._find_first, what="the namespaces are there", timeout=10)
        self.run("sh", "-c", _OWN_FOLDERS)

    def _find_first(self) -> psutil.Process | None:
        """None until it runs the holder."""
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self._child.pid).children():
                if Path(process.exe()) == self._holder:
                    return process
        return None

    def inside(self, *command: str, only_network: bool = False) -> list[str]:
        """A command, as one that runs inside."""
        which = ["--net"] if only_network else ["--net", "--mount", "--pid"]
        return ["nsenter", "--target", str(self.pid), *which, "--", *command]

    def run(self, *command: str) -> str:
        """Run a command inside and return what it prints.

        Raises:
            ClusterError: it failed, with its reason.
        """
        return run(*self.inside(*command))

    def child(self, name: str, *command: str, environment: Mapping[str, str] | None = None) -> Child:
        """A program that runs inside; not started yet."""
        return Child(name, self.inside(*command), self._folder, environment)

    def stop(self) -> None:
        """End all that is inside, and wait until it is gone."""
        if self._first:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._first.kill()
                self._first.wait(30)
        self._child.stop()


def run(*command: str) -> str:
    """Run a command and return what it prints; a failure is a ClusterError with its reason."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout
