"""What runs on this machine, as `ps` would show it, and how it is ended without warning."""

from __future__ import annotations

import contextlib

import psutil


def processes() -> dict[int, str]:
    """Command lines by process id; what has ended and waits to be collected has none and is left out."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if command := process.cmdline():
                found[process.pid] = " ".join(command)
    return found


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def kill_tree(pid: int) -> None:
    """kill -9 of a process and of all below it. Some die with their parents before their turn comes."""
    root = psutil.Process(pid)
    for process in [*root.children(recursive=True), root]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
