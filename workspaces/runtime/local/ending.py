"""Ending a run: every process of it, found by whatever is left to find it by."""

from __future__ import annotations

import signal
import time

from workspaces.runtime.errors import ClusterFault
from workspaces.runtime.local import bubblewrap, files, launch, processes
from workspaces.runtime.local.cgroups import Groups
from workspaces.runtime.local.layout import Place
from workspaces.runtime.local.processes import Process
from workspaces.runtime.local.records import Notes

_PATIENCE = 3.0


def remains(place: Place, notes: Notes | None, groups: Groups) -> set[Process]:
    """All living processes of the run but its supervisor.

    Told from the notes, the control groups and, for what slipped both, the sandbox's own command line and the variable
    that only this workspace's processes have in their environment.
    """
    roots: set[Process] = set()
    supervisor: Process | None = None
    if notes is not None and notes.started is not None and notes.started.boot_id == processes.boot_id():
        supervisor = notes.started.shim
        roots |= {process for process in (notes.started.main, notes.started.init) if process is not None}
    for pid in groups.members():
        seen = processes.look(pid)
        if seen is not None:
            roots.add(seen.process)
    roots |= processes.marked(
        lambda words: bubblewrap.is_sandbox_of(words, place.home), f"SLIPWAY_AGENT_SPEC={place.handed}/spec.json"
    )
    return {process for process in processes.tree(roots) if process != supervisor}


def kill(place: Place, notes: Notes | None, groups: Groups) -> set[Process]:
    """Send SIGKILL to everything that is left; returns what got it."""
    groups.kill()
    victims = remains(place, notes, groups)
    for process in victims:
        processes.send(process, signal.SIGKILL)
    return victims


def kill_for_good(place: Place, notes: Notes | None, groups: Groups) -> None:
    """The same until nothing is left, supervisor included.

    Raises:
        ClusterFault: something withstood SIGKILL for seconds, as a process that waits for a broken disk does.
    """
    until = time.monotonic() + _PATIENCE
    while True:
        victims = kill(place, notes, groups)
        supervisor = _supervisor(place, notes)
        if not victims and supervisor is None:
            break
        if not processes.wait_gone(victims, until=until):
            raise _still_ending(place)
        # With its charge dead, the supervisor writes the end down and goes by itself.
        if supervisor is not None and not processes.wait_gone([supervisor], until=until):
            processes.send(supervisor, signal.SIGKILL)
        if time.monotonic() > until:
            raise _still_ending(place)
    if files.life_lock_held(place.life):
        raise _still_ending(place)


def _supervisor(place: Place, notes: Notes | None) -> Process | None:
    if notes is not None and notes.started is not None and notes.started.boot_id == processes.boot_id():
        return notes.started.shim if processes.alive(notes.started.shim) else None
    return next(iter(processes.marked(lambda words: launch.is_supervisor_of(words, place))), None)


def _still_ending(place: Place) -> ClusterFault:
    return ClusterFault(
        "still_ending",
        "The workspace's processes are still ending.",
        "Wait a moment; Slipway tries again by itself.",
        log_text=f"processes of {place.root.name} withstand SIGKILL",
        retry_after=2,
    )
