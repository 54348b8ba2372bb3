"""What runs on this machine, as `ps` would show it, and how it is ended without warning."""

from __future__ import annotations

import contextlib

import psutil


def processes() -> dict[int, str]:
    """Command lines by process id; what has ended and waits to be collected has none and is left out."""
    return {pid: command for pid in psutil.pids() if (command := command_of(pid))}


def command_of(pid: int) -> str:
    """The command line of a process; empty when it has ended."""
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def kill_tree(pid: int) -> None:
    """kill -9 of a process and of all below it. Some die with their parents before their turn comes."""
    root = psutil.Process(pid)
    for process in [*root.children(recursive=True), root]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
