"""Which processes there are, whose they are, and ending all of them: read from /proc."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from pathlib import Path

from agent import processes

_PROC = Path("/proc")


@dataclasses.dataclass(frozen=True, slots=True)
class Proc:
    """One process, from /proc/<pid>/stat (proc(5)).

    Attributes:
        ticks: CPU time used so far, in clock ticks.
        began: start in clock ticks after boot; with `pid` it names the process, also when the number is used again.
    """

    pid: int
    parent: int
    state: str
    terminal: int
    ticks: int
    began: int


def _parse(pid: int, line: str) -> Proc:
    # The second field is the program's name in parentheses, and may itself hold any character.
    fields = line[line.rindex(")") + 2 :].split()
    return Proc(pid, int(fields[1]), fields[0], int(fields[4]), int(fields[11]) + int(fields[12]), int(fields[19]))


def table() -> dict[int, Proc]:
    """Every process that can be seen."""
    found: dict[int, Proc] = {}
    for name in os.listdir(_PROC):  # noqa: PTH208 - runs every second, and names are all it needs.
        if name.isdigit():
            # It may be gone by now.
            with contextlib.suppress(OSError, ValueError):
                found[int(name)] = _parse(int(name), (_PROC / name / "stat").read_text(errors="replace"))
    return found


def descendants(processes_by_id: dict[int, Proc], root: int) -> set[int]:
    """Ids of all that descend from `root`, without itself."""
    children: dict[int, list[int]] = {}
    for process in processes_by_id.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    queue = list(children.get(root, ()))
    while queue:
        pid = queue.pop()
        if pid not in found:
            found.add(pid)
            queue.extend(children.get(pid, ()))
    return found


def owned(root: int, marker: str) -> set[int]:
    """Processes of this workspace: descendants of `root`, and whatever carries the marker in its environment.

    Args:
        marker: `NAME=value` as it stands in the environment.
    """
    everything = table()
    found = descendants(everything, root)
    needle = b"\0" + marker.encode() + b"\0"
    for pid in everything.keys() - found - {root}:
        # Processes of other users cannot be read: they are not ours either.
        with contextlib.suppress(OSError):
            if needle in b"\0" + (_PROC / str(pid) / "environ").read_bytes() + b"\0":
                found.add(pid)
    return found


def command_line(pid: int) -> str:
    """The arguments joined by spaces; empty when it is gone."""
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def reap_orphans(everything: dict[int, Proc]) -> None:
    """Collect ended processes that were handed to us and that nobody else waits for."""
    me = os.getpid()
    for process in everything.values():
        if process.parent == me and process.state == "Z" and process.pid not in processes.tracked:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process.pid, os.WNOHANG)


def living_descendants() -> list[int]:
    """Ids of all that descends from this process and has not ended."""
    everything = table()
    return [pid for pid in descendants(everything, os.getpid()) if everything[pid].state != "Z"]


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to one process; one that is gone is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
