"""Processes told apart by number, start time and boot, found again after a restart, and ended for certain.

A number alone says nothing: the kernel hands it out again. See proc_pid_stat(5) for the fields used here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

_PROC = Path("/proc")


@dataclasses.dataclass(frozen=True, slots=True)
class Process:
    """One process of this boot: its number, and its start in clock ticks since boot."""

    pid: int
    start: int


@dataclasses.dataclass(frozen=True, slots=True)
class Stat:
    """What /proc says about a process."""

    process: Process
    parent: int
    ended: bool


def boot_id() -> str:
    """Changes with each boot of the machine."""
    return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def since_boot() -> float:
    """Seconds since boot, sleep included: no one can set this clock back."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def look(pid: int) -> Stat | None:
    """What is known about the process which has this number now; None when there is none."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in parentheses and may hold anything, so the fields are counted from its end.
    fields = text[text.rindex(")") + 2 :].split()
    return Stat(Process(pid, int(fields[19])), parent=int(fields[1]), ended=fields[0] in {"Z", "X"})


def alive(process: Process) -> bool:
    """Whether it is this very process and still runs; a zombie has ended."""
    seen = look(process.pid)
    return seen is not None and seen.process == process and not seen.ended


def every() -> Iterator[Stat]:
    """All processes that run."""
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (seen := look(int(entry.name))) is not None and not seen.ended:
            yield seen


def first_inside(init: Process) -> Process | None:
    """The process that the first one of a PID namespace started: number 2 in there, by NSpid of proc_pid_status(5)."""
    for seen in every():
        if seen.parent == init.pid and _number_inside(seen.process.pid) == 2:
            return seen.process
    return None


def _number_inside(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        for line in (_PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return None


def tree(roots: Iterable[Process]) -> set[Process]:
    """The given processes, as far as they live, with all that descends from them."""
    children: dict[int, list[Process]] = {}
    for seen in every():
        children.setdefault(seen.parent, []).append(seen.process)
    found: set[Process] = set()
    waiting = [root for root in roots if alive(root)]
    while waiting:
        process = waiting.pop()
        if process not in found:
            found.add(process)
            waiting.extend(children.get(process.pid, ()))
    return found


def marked(ours: Callable[[Sequence[str]], bool], variable: str | None = None) -> set[Process]:
    """Processes whose command line is one of `ours`, or which have `variable` (K=V) in their environment.

    How a run is found of which no usable note is left. A single word of a command line is no sign: a backup of a
    workspace names its folders, too.
    """
    found: set[Process] = set()
    for seen in every():
        folder = _PROC / str(seen.process.pid)
        if ours([os.fsdecode(word) for word in _words(folder / "cmdline")]) or (
            variable is not None and variable.encode() in _words(folder / "environ")
        ):
            found.add(seen.process)
    return found


def _words(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\0")
    except OSError:
        return []


def send(process: Process, number: signal.Signals) -> bool:
    """Signal this very process; False when it is no longer there."""
    with _opened(process) as descriptor:
        if descriptor is None:
            return False
        try:
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
    return True


def wait_gone(processes: Iterable[Process], *, until: float) -> bool:
    """Wait for the end of all of them, at most until this moment of `time.monotonic`; whether they all ended."""
    for process in processes:
        with _opened(process) as descriptor:
            if descriptor is None:
                continue
            poller = select.poll()
            poller.register(descriptor, select.POLLIN)
            if not poller.poll(max(0.0, until - time.monotonic()) * 1000):
                return False
    return True


@contextlib.contextmanager
def _opened(process: Process) -> Iterator[int | None]:
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        # Only after opening: from here on the number cannot be handed to somebody else behind our back.
        yield descriptor if alive(process) else None
    finally:
        os.close(descriptor)
