"""The notes about a run, and what they and /proc together say about it. Reading them is all that adoption takes."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from pathlib import Path
from typing import Any

from workspaces.runtime.local import files, processes
from workspaces.runtime.local.cgroups import Groups
from workspaces.runtime.local.files import UnreadableError
from workspaces.runtime.local.layout import Place
from workspaces.runtime.local.processes import Process
from workspaces.runtime.port import Observation, Presence


@dataclasses.dataclass(frozen=True, slots=True)
class Intent:
    """Written before anything is started: which run shall be there, and how it is run."""

    run: int
    digest: str
    sandboxed: bool
    groups: Groups
    warnings: tuple[str, ...]

    def write(self, place: Place) -> None:
        """Keep it durably."""
        document = {
            "run": self.run,
            "digest": self.digest,
            "sandboxed": self.sandboxed,
            "groups": [str(folder) for folder in self.groups.folders],
            "warnings": list(self.warnings),
        }
        files.write_json(place.run / "intent.json", document)


@dataclasses.dataclass(frozen=True, slots=True)
class Started:
    """Written by the supervisor: the processes it made."""

    boot_id: str
    started_at: datetime
    main: Process
    shim: Process
    init: Process | None


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """Written by the supervisor: how the run ended."""

    code: int
    errno: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Stop:
    """When the run was first asked to end, in seconds since the boot named, and whether the agent was told."""

    boot_id: str
    asked: float
    told: bool

    def write(self, place: Place) -> None:
        """Keep it durably."""
        files.write_json(place.run / "stop.json", dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True, slots=True)
class Notes:
    """All that is written down about the run of one workspace."""

    intent: Intent
    started: Started | None
    ended: Ended | None
    stop: Stop | None


def read(place: Place) -> Notes | None:
    """The notes; None when there is no run.

    Raises:
        UnreadableError: something is written there that makes no sense, so nothing is known.
    """
    try:
        intent = files.read_json(place.run / "intent.json")
        if intent is None:
            return None
        run = _integer(intent["run"])
        started = _of_run(files.read_json(place.run / "process.json"), run)
        ended = _of_run(files.read_json(place.run / "exit.json"), run)
        stop = files.read_json(place.run / "stop.json")
        return Notes(
            Intent(
                run=run,
                digest=str(intent["digest"]),
                sandboxed=bool(intent["sandboxed"]),
                groups=Groups(tuple(Path(folder) for folder in intent["groups"])),
                warnings=tuple(str(code) for code in intent["warnings"]),
            ),
            _started(started) if started else None,
            Ended(_integer(ended["code"]), ended["errno"]) if ended else None,
            Stop(str(stop["boot_id"]), float(stop["asked"]), bool(stop["told"])) if stop else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableError(f"notes: {error!r}") from error


def observation(place: Place, notes: Notes | None) -> Observation:
    """What the notes and the machine say now."""
    if notes is None:
        # Who starts a run holds the life lock before anything of it is noted: a moment later it may well be there.
        return Observation(Presence.UNKNOWN if files.life_lock_held(place.life) else Presence.ABSENT)
    living = _living(place, notes)
    if not living and notes.started is None:
        return Observation(Presence.ABSENT)  # Only the intention is there: its starter died before it started anything.
    if living:
        reason = "" if notes.started else "starting"
        return _described(place, notes, Presence.RUNNING, reason=reason)
    # Read again: the supervisor writes the end just before it goes.
    notes = read(place) or notes
    return _described(place, notes, Presence.EXITED, reason=_why(notes))


def agent(notes: Notes) -> Process | None:
    """The agent's own process, as far as it can be found now."""
    started = notes.started
    if started is None or started.boot_id != processes.boot_id():
        return None
    if not notes.intent.sandboxed:
        return started.main if processes.alive(started.main) else None
    if started.init is None or not processes.alive(started.init):
        return None
    return processes.first_inside(started.init)


def _living(place: Place, notes: Notes) -> bool:
    if files.life_lock_held(place.life):
        return True
    # The supervisor is gone; the agent may well be there still.
    return notes.ended is None and agent(notes) is not None


def _why(notes: Notes) -> str:
    if notes.ended is None:
        rebooted = notes.started is not None and notes.started.boot_id != processes.boot_id()
        return "rebooted" if rebooted else "supervisor_lost"
    if notes.ended.errno is not None:
        return "not_started"
    if notes.ended.code != 0 and notes.stop is None and notes.intent.groups.out_of_memory():
        return "oom_killed"
    return ""


def _described(place: Place, notes: Notes, presence: Presence, *, reason: str) -> Observation:
    return Observation(
        presence,
        run=notes.intent.run,
        digest=notes.intent.digest,
        started_at=notes.started.started_at if notes.started else None,
        exit_code=notes.ended.code if notes.ended and presence is Presence.EXITED else None,
        reason=reason,
        upstream={"ide": f"unix:{place.sockets}/ide.sock", "ports": f"unix:{place.sockets}/ports"},
        warnings=notes.intent.warnings,
    )


def _of_run(document: dict[str, Any] | None, run: int) -> dict[str, Any] | None:
    """A note of an earlier run, left by a crash while clearing up, is no note about this one."""
    return document if document is not None and _integer(document["run"]) == run else None


def _started(document: dict[str, Any]) -> Started:
    return Started(
        boot_id=str(document["boot_id"]),
        started_at=datetime.fromisoformat(document["started_at"]),
        main=_process(document["main"]),
        shim=_process(document["shim"]),
        init=_process(document["init"]) if document["init"] else None,
    )


def _process(document: dict[str, Any]) -> Process:
    return Process(_integer(document["pid"]), _integer(document["start"]))


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not a number")
    return value
