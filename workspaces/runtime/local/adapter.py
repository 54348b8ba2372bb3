"""Workspaces as processes of this machine: the port's operations, each under the workspace's lock."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import structlog

from workspaces.runtime.errors import ClusterFault, PlatformFault, SpecConflict, VolumeMissing
from workspaces.runtime.local import bubblewrap, cgroups, ending, files, launch, processes, records
from workspaces.runtime.local.cgroups import Groups
from workspaces.runtime.local.config import LocalConfig
from workspaces.runtime.local.faults import runtime_busy, state_unreadable, translated
from workspaces.runtime.local.layout import Layout, Place
from workspaces.runtime.local.records import Intent, Stop
from workspaces.runtime.port import LOOKED_AT, Listed, Observation, Presence, RunSpec
from workspaces.runtime.without_snapshots import WithoutSnapshots

# Seconds to wait for somebody else's work on the same workspace. A start is worth waiting for: who asks for it twice at
# once is answered with the run twice.
_WAIT = 1.0
_START_WAIT = 5.0

log = structlog.get_logger(__name__)

_NOTES = ("intent.json", "exit.json", "process.json", "stop.json", "launch.json", "process.json.new", "exit.json.new")


class LocalRuntime(WithoutSnapshots):
    """The port's `Runtime` on one Linux machine; see `LocalConfig`. Safe to use from threads and processes at once."""

    pace = LOOKED_AT

    def __init__(self, config: LocalConfig) -> None:
        self._config = config
        self._layout = Layout(config)
        self._sandboxed: bool | None = None
        self._compiled = False

    def ensure_volume(self, name: str) -> None:
        """See the port."""
        with self._changing(name, "ensure_volume"):
            self._layout.make_volume(name)

    def ensure_run(self, spec: RunSpec) -> Observation:
        """See the port. The volume must be there."""
        with self._changing(spec.name, "ensure_run", wait=_START_WAIT) as place:
            if not place.has_volume():
                raise VolumeMissing(spec.name)
            if not place.run.is_dir() or not place.log.is_dir():  # A copy that was put back may lack empty folders.
                self._layout.make_volume(spec.name)
            notes = records.read(place)
            if notes is not None and notes.intent.digest != spec.digest():
                if records.observation(place, notes).presence is not Presence.ABSENT:
                    raise SpecConflict(spec.name)
                notes = None
            if notes is None or notes.started is None:
                self._start(place, spec)
            return records.observation(place, records.read(place))

    def observe(self, name: str) -> Observation:
        """See the port."""
        place = self._layout.place(name)
        try:
            return records.observation(place, records.read(place))
        except (OSError, files.UnreadableError) as error:
            log.warning("run_unknown", workspace=name, error=str(error))
            return Observation(Presence.UNKNOWN)

    def stop(self, name: str, *, grace: float) -> None:
        """See the port."""
        with self._changing(name, "stop") as place:
            notes = records.read(place)
            if notes is None or records.observation(place, notes).presence is not Presence.RUNNING:
                return
            now, boot = processes.since_boot(), processes.boot_id()
            stop = notes.stop if notes.stop and notes.stop.boot_id == boot else None
            if stop is None:
                stop = Stop(boot, asked=now, told=False)
                stop.write(place)
                log.info("run_stop_asked", workspace=name, run=notes.intent.run)
            if now - stop.asked >= grace:
                ending.kill(place, notes, notes.intent.groups)
                log.info("run_killed", workspace=name, run=notes.intent.run)
            elif not stop.told:
                target = records.agent(notes)
                if target is not None and processes.send(target, signal.SIGTERM):
                    dataclasses.replace(stop, told=True).write(place)

    def destroy_run(self, name: str) -> None:
        """See the port. Also the way out of an unknown state: notes that nobody can read are deleted with the run."""
        with self._changing(name, "destroy_run") as place:
            try:
                notes = records.read(place)
            except files.UnreadableError as error:
                log.warning("run_notes_lost", workspace=name, error=str(error))
                notes = None
            if place.root.exists():
                self._end(name, place, notes)
        self._empty_trash(name, "destroy_run")

    def abandon_run(self, name: str) -> None:
        """See the port. There is only this machine."""
        self.destroy_run(name)

    def destroy_volume(self, name: str) -> None:
        """See the port. Absent at once, and then deleted; what was left when that was cut short goes with the next."""
        with self._changing(name, "destroy_volume") as place:
            if records.observation(place, records.read(place)).presence is not Presence.ABSENT:
                raise PlatformFault(
                    "volume_in_use",
                    "The workspace is still running.",
                    "Stop it first, then delete it.",
                    log_text=f"a run of {name} is there",
                )
            if place.root.exists():
                ending.kill_for_good(place, None, Groups())
            for folder in (place.root, place.sockets):
                self._layout.set_aside(name, folder)
        self._empty_trash(name, "destroy_volume")

    def list(self) -> list[Listed]:
        """See the port."""
        with translated("list"):
            names = sorted(self._layout.names())
        return [Listed(name, has_volume=True, presence=self.observe(name).presence) for name in names]

    def logs(self, name: str, *, run: int | None = None, limit: int = 1_048_576) -> bytes:
        """See the port. Starts at a whole line where it had to cut."""
        folder = self._layout.place(name).log
        with translated("logs"):
            number = run if run is not None else max(_logged(folder), default=None)
            return b"" if number is None else files.read_tail(folder / f"run-{number}.jsonl", limit)

    @contextlib.contextmanager
    def _changing(self, name: str, doing: str, *, wait: float = _WAIT) -> Iterator[Place]:
        place = self._layout.place(name)
        with translated(f"{doing} {name}"), _heeding(name):
            self._layout.prepare()
            with files.locked(self._layout.lock(name), wait=wait):
                self._config.on_step("locked")
                yield place

    def _empty_trash(self, name: str, doing: str) -> None:
        """Delete what was set aside; without the lock, so that nobody waits for that."""
        self._config.on_step("set_aside")
        with translated(f"{doing} {name}"), _heeding(name):
            self._layout.empty_trash(name, wait=_WAIT)

    def _end(self, name: str, place: Place, notes: records.Notes | None) -> None:
        groups = notes.intent.groups if notes else cgroups.find(self._config.cgroup_root, self._instance(), name)
        ending.kill_for_good(place, notes, groups)
        self._clear(name, place)
        with contextlib.suppress(OSError):  # A group is only litter; the next start of this name takes it over.
            groups.remove()

    def _start(self, place: Place, spec: RunSpec) -> None:
        """Start a run, unless a supervisor of it lives whose starter died before it could say so."""
        life = files.try_life_lock(place.life)
        if life is None:
            return
        try:
            self._prepare_and_launch(place, spec, life)
        finally:
            os.close(life)

    def _prepare_and_launch(self, place: Place, spec: RunSpec, life: int) -> None:
        step = self._config.on_step
        if not self._compiled:
            launch.compile_agent(self._config)
            self._compiled = True
        owner = self._layout.owner(spec.name)
        sandboxed = self._use_sandbox(owner)
        self._clear(spec.name, place)
        _forget_logs(place.log, keep=self._config.keep_logs - 1, but=spec.run)
        groups = cgroups.create(self._config.cgroup_root, self._instance(), spec.name, spec.limits)
        step("limits_made")
        warnings: tuple[str, ...] = () if sandboxed else ("no_sandbox",)
        warnings += () if groups.limited else ("no_limits",)
        Intent(spec.run, spec.digest(), sandboxed, groups, warnings).write(place)
        step("intent_written")
        self._layout.fresh_sockets(spec.name)
        launch.hand_over(place, spec, owner)
        step("handed_over")
        document = launch.plan(self._config, place, spec, groups, owner=owner, sandboxed=sandboxed)
        launch.start(place, document, life, step)
        step("started")
        log.info("run_started", workspace=spec.name, run=spec.run, sandboxed=sandboxed)

    def _clear(self, name: str, place: Place) -> None:
        """Delete the notes about a run of which nothing lives any more, the intent last; its sockets are set aside.

        Beside the sockets may lie a big temporary folder.
        """
        for note in reversed(_NOTES):
            (place.run / note).unlink(missing_ok=True)
        files.remove_tree(place.handed)
        self._layout.set_aside(name, place.sockets)

    def _use_sandbox(self, owner: int | None) -> bool:
        if self._config.sandbox == "none":
            return False
        if self._sandboxed is None:
            self._sandboxed = bubblewrap.usable(self._config, owner)
            log.info("sandbox_probed", usable=self._sandboxed)
        if not self._sandboxed and self._config.sandbox == "bwrap":
            raise ClusterFault(
                "no_sandbox",
                "Workspaces cannot run here: the sandbox does not work.",
                "Ask the operator to install bubblewrap and to allow user namespaces.",
                log_text="sandbox is required, and bubblewrap is missing or unusable",
                temporary=False,
            )
        return self._sandboxed

    def _instance(self) -> str:
        return f"slipway-{hashlib.sha256(str(self._config.home).encode()).hexdigest()[:8]}"


@contextlib.contextmanager
def _heeding(name: str) -> Iterator[None]:
    """Say in words for people that the workspace's files make no sense, or that somebody else is at work on them."""
    try:
        yield
    except files.UnreadableError as error:
        raise state_unreadable(name, str(error)) from error
    except files.BusyError as error:
        raise runtime_busy(name, str(error)) from error


def _logged(folder: Path) -> list[int]:
    numbers = (path.stem.removeprefix("run-") for path in folder.glob("run-*.jsonl"))
    return sorted(int(number) for number in numbers if number.isdigit())


def _forget_logs(folder: Path, *, keep: int, but: int) -> None:
    older = [number for number in _logged(folder) if number != but]
    for number in older[: max(0, len(older) - keep)]:
        (folder / f"run-{number}.jsonl").unlink(missing_ok=True)
