"""A runtime without processes: to work on everything above it, and to see how that copes with a bad one.

Its state is in memory, or in a folder, and then shared by all processes that name the same folder. It only plays the
runtime: no agent reports anything. Variants come from `FakeOptions`: slow, hanging and failing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workspaces.runtime.errors import (
    ClusterFault,
    Failure,
    PlatformFault,
    SnapshotsUnavailable,
    SpecConflict,
    UserFault,
    VolumeExists,
    VolumeInUse,
    VolumeMissing,
    VolumeRestoring,
)
from workspaces.runtime.names import checked, checked_key
from workspaces.runtime.port import (
    LOOKED_AT,
    Copying,
    CopyState,
    Listed,
    Observation,
    Presence,
    RunSpec,
    Runtime,
    SnapshotRef,
    Step,
)

_FAULTS: dict[str, type[Failure]] = {"user": UserFault, "cluster": ClusterFault, "platform": PlatformFault}

State = dict[str, dict[str, Any]]
# Where snapshots are in the state; no workspace is called that.
_SNAPSHOTS = "/snapshots"


@dataclasses.dataclass(frozen=True, slots=True)
class FakeOptions:
    """How this fake behaves. Times are in seconds of the clock.

    Attributes:
        start_after: slow: so long a run is there with reason "starting" and no `started_at`.
        stop_after: a polite stop takes so long; force ends it at once.
        exit_after: a run ends by itself after this time; None: never.
        exit_code, exit_reason: what is then seen.
        hindrance: the reason that is seen while it starts, beside `steps`.
        steps: how far a start is, where this runtime is one that can tell.
        hang_stop: hanging: no stop, polite or by force, ever ends a run, and it cannot be destroyed.
        observe_unknown: hanging: `observe` and `list` cannot tell; `unknown_reason` is then seen.
        snapshots: whether this runtime copies volumes.
        copy_after: slow: so long each snapshot and each restore is under way.
        copy_fails: failing: how each snapshot and each restore ends.
        fail: failing: operation's name -> what it raises, before it does anything.
    """

    start_after: float = 0.0
    stop_after: float = 0.0
    exit_after: float | None = None
    exit_code: int = 1
    exit_reason: str = ""
    hindrance: str = "starting"
    steps: tuple[Step, ...] = ()
    hang_stop: bool = False
    observe_unknown: bool = False
    unknown_reason: str = ""
    warnings: tuple[str, ...] = ()
    snapshots: bool = True
    copy_after: float = 0.0
    copy_fails: Failure | None = None
    fail: Mapping[str, Failure] = dataclasses.field(default_factory=dict)


class FakeRuntime:
    """The port's `Runtime`, played.

    Args:
        options: how it behaves.
        folder: where its state is kept; None: in this object.
        clock: seconds that only grow, the same for all processes that share a folder.
    """

    pace = LOOKED_AT

    def __init__(
        self,
        options: FakeOptions | None = None,
        *,
        folder: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.options = options or FakeOptions()
        self._folder = folder
        self._clock = clock
        self._memory: State = {}
        self._lock = threading.RLock()

    def ensure_volume(self, name: str) -> None:
        """See the port."""
        with self._state("ensure_volume", name) as state:
            state.setdefault(name, self._new_volume())

    def ensure_run(self, spec: RunSpec) -> Observation:
        """See the port. The volume must be there."""
        with self._state("ensure_run", spec.name) as state:
            entry = state.get(spec.name)
            if entry is None:
                raise VolumeMissing(spec.name)
            if entry.get("made_from") and not entry.get("restored"):
                raise VolumeRestoring(spec.name)
            entry.pop("copy", None)
            if entry["run"] is None:
                entry["run"] = {
                    "run": spec.run,
                    "digest": spec.digest(),
                    "at": self._clock(),
                    "end": None,
                    "asked": None,
                }
                entry["logs"].setdefault(str(spec.run), []).append(self._line("The fake runtime plays this run."))
            elif entry["run"]["digest"] != spec.digest():
                raise SpecConflict(spec.name)
            return self._see(spec.name, entry)

    def observe(self, name: str) -> Observation:
        """See the port."""
        with self._state("observe", name) as state:
            if self.options.observe_unknown:
                return Observation(Presence.UNKNOWN, reason=self.options.unknown_reason)
            return self._see(name, state.get(name))

    def stop(self, name: str, *, grace: float) -> None:
        """See the port."""
        with self._state("stop", name) as state:
            entry = state.get(name)
            if entry is None or self._see(name, entry).presence is not Presence.RUNNING:
                return
            run, now = entry["run"], self._clock()
            if run["asked"] is None:
                run["asked"] = now
            if now - run["asked"] >= grace and not self.options.hang_stop:
                run["end"] = {"code": -signal.SIGKILL, "reason": ""}

    def destroy_run(self, name: str) -> None:
        """See the port."""
        with self._state("destroy_run", name) as state:
            entry = state.get(name)
            if entry is None:
                return
            if self.options.hang_stop and self._see(name, entry).presence is Presence.RUNNING:
                raise ClusterFault(
                    "still_ending",
                    "The workspace's processes are still ending.",
                    "Wait a moment; Slipway tries again by itself.",
                    retry_after=2,
                )
            entry["run"] = None

    def abandon_run(self, name: str) -> None:
        """See the port. There is only this machine."""
        with self._state("abandon_run", name):
            self.destroy_run(name)

    def destroy_volume(self, name: str) -> None:
        """See the port."""
        with self._state("destroy_volume", name) as state:
            if state.get(name, {}).get("run") is not None:
                raise PlatformFault(
                    "volume_in_use", "The workspace is still running.", "Stop it first, then delete it."
                )
            state.pop(name, None)

    def free_volume(self, name: str, *, volume: str) -> Copying:
        """See the port."""
        with self._copying("free_volume", name) as state:
            entry = state.get(name)
            if entry is not None and entry["volume"] == volume:
                if entry["run"] is not None:
                    raise VolumeInUse(name)
                del state[name]
            return Copying(CopyState.ABSENT)

    def write(self, name: str, text: str) -> None:
        """Let the workspace's volume hold this, as if its owner had typed it."""
        with self._state("write", name) as state:
            state[name]["text"] = text

    def read(self, name: str) -> str:
        """What the workspace's volume holds."""
        with self._state("read", name) as state:
            return str(state[name]["text"])

    def list(self) -> list[Listed]:
        """See the port."""
        with self._state("list", None) as state:
            unknown = self.options.observe_unknown
            return [
                Listed(name, has_volume=True, presence=Presence.UNKNOWN if unknown else self._see(name, entry).presence)
                for name, entry in sorted(state.items())
                if name != _SNAPSHOTS
            ]

    def logs(self, name: str, *, run: int | None = None, limit: int = 1_048_576) -> bytes:
        """See the port."""
        with self._state("logs", name) as state:
            logs: dict[str, list[str]] = state.get(name, {}).get("logs", {})
            number = run if run is not None else max((int(key) for key in logs), default=0)
            text = "".join(f"{line}\n" for line in logs.get(str(number), [])).encode()
        if len(text) <= limit:
            return text
        tail = text[len(text) - limit :]
        return tail[tail.find(b"\n") + 1 :]

    @property
    def keeps_snapshots(self) -> bool:
        """See the port."""
        return self.options.snapshots

    def snapshot(self, name: str, *, key: str, created: datetime) -> Copying:
        """See the port."""
        with self._copying("snapshot", name) as state:
            kept = state.setdefault(_SNAPSHOTS, {})
            reference = f"{name}/{checked_key(key)}"
            if reference not in kept:
                entry = state.get(name)
                if entry is None:
                    raise VolumeMissing(name)
                if entry["run"] is not None:
                    raise VolumeInUse(name)
                if (ended := self._copied(entry, reference)) is not None:
                    return ended
                kept[reference] = {"created": created.isoformat(), "text": entry["text"], "volume": entry["volume"]}
            return Copying(CopyState.PRESENT, SnapshotRef("fake", reference), volume=kept[reference]["volume"])

    def restore(self, name: str, snapshot: SnapshotRef) -> Copying:
        """See the port."""
        with self._copying("restore", name) as state:
            entry = state.get(name)
            if entry is None:
                entry = state[name] = {**self._new_volume(), "made_from": snapshot.reference}
            elif entry.get("made_from") != snapshot.reference:
                raise VolumeExists(name, entry["volume"])
            if entry.get("restored"):
                return Copying(CopyState.PRESENT, snapshot)
            if (ended := self._copied(entry, snapshot.reference)) is not None:
                return ended
            if snapshot.reference not in state.get(_SNAPSHOTS, {}):
                missing = ClusterFault("backup_missing", "There is no such copy.", "Choose another.", temporary=False)
                return Copying(CopyState.FAILED, failure=missing)
            entry |= {"restored": True, "text": state[_SNAPSHOTS][snapshot.reference]["text"]}
            return Copying(CopyState.PRESENT, snapshot)

    def forget_snapshot(self, name: str, snapshot: SnapshotRef) -> Copying:
        """See the port."""
        with self._copying("forget_snapshot", name) as state:
            state.get(_SNAPSHOTS, {}).pop(snapshot.reference, None)
            return Copying(CopyState.ABSENT)

    def call_off_snapshot(self, name: str, *, key: str) -> Copying:
        """See the port."""
        with self._copying("call_off_snapshot", name) as state:
            reference = f"{name}/{checked_key(key)}"
            state.get(_SNAPSHOTS, {}).pop(reference, None)
            if state.get(name, {}).get("copy", {}).get("of") == reference:
                del state[name]["copy"]
            return Copying(CopyState.ABSENT)

    def resize_volume(self, name: str) -> None:
        """See the port."""
        with self._state("resize_volume", name) as state:
            if name not in state:
                raise VolumeMissing(name)

    @staticmethod
    def _new_volume() -> dict[str, Any]:
        return {"run": None, "logs": {}, "volume": uuid.uuid4().hex, "text": ""}

    @contextlib.contextmanager
    def _copying(self, operation: str, name: str) -> Iterator[State]:
        if not self.options.snapshots:
            raise SnapshotsUnavailable(f"{operation} {name}")
        with self._state(operation, name) as state:
            yield state

    def _copied(self, entry: dict[str, Any], reference: str) -> Copying | None:
        """How far the work is; None once it is done."""
        now = self._clock()
        if entry.get("copy", {}).get("of") != reference:
            entry["copy"] = {"of": reference, "at": now}
        if now < entry["copy"]["at"] + self.options.copy_after:
            return Copying(CopyState.RUNNING, message="The fake runtime plays this copy.")
        del entry["copy"]
        if self.options.copy_fails is not None:
            return Copying(CopyState.FAILED, failure=self.options.copy_fails)
        return None

    def _see(self, name: str, entry: dict[str, Any] | None) -> Observation:
        run = entry["run"] if entry is not None else None
        if run is None:
            return Observation(Presence.ABSENT)
        end = run["end"] or self._own_end(run)
        started = run["at"] + self.options.start_after
        starting = self._clock() < started
        root = self._folder or Path("/var/empty/slipway")
        return Observation(
            Presence.EXITED if end else Presence.RUNNING,
            run=run["run"],
            digest=run["digest"],
            started_at=None if starting else datetime.fromtimestamp(started, UTC),
            exit_code=end["code"] if end else None,
            reason=end["reason"] if end else (self.options.hindrance if starting else ""),
            upstream={}
            if starting
            else {"ide": f"unix:{root}/w/{name}/ide.sock", "ports": f"unix:{root}/w/{name}/ports"},
            warnings=self.options.warnings,
            steps=self.options.steps,
        )

    def _own_end(self, run: dict[str, Any]) -> dict[str, Any] | None:
        now, options = self._clock(), self.options
        if options.exit_after is not None and now >= run["at"] + options.exit_after:
            return {"code": options.exit_code, "reason": options.exit_reason}
        if run["asked"] is not None and not options.hang_stop and now >= run["asked"] + options.stop_after:
            return {"code": 0, "reason": ""}
        return None

    def _line(self, text: str) -> str:
        now = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        return json.dumps({"t": now.replace("+00:00", "Z"), "source": "agent", "level": "info", "text": text})

    @contextlib.contextmanager
    def _state(self, operation: str, name: str | None) -> Iterator[State]:
        """The state, locked; what the block changed is kept."""
        if name is not None:
            checked(name)
        if operation in self.options.fail:
            raise self.options.fail[operation]
        with self._lock:
            if self._folder is None:
                yield self._memory
                return
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / "fake.lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                path = self._folder / "fake.json"
                state: State = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
                yield state
                temporary = path.with_suffix(".new")
                temporary.write_text(json.dumps(state), encoding="utf-8")
                temporary.replace(path)


def build(options: Mapping[str, Any]) -> Runtime:
    """The fake from its settings: the fields of `FakeOptions` by name, and `folder`.

    `fail` maps an operation to {"responsible": "user|cluster|platform", "code", "user_text", "next_step"}.
    """
    values = dict(options)
    folder = values.pop("folder", None)
    fail = {
        operation: _FAULTS[fault.get("responsible", "cluster")](
            fault.get("code", "fake_failure"),
            fault.get("user_text", "The fake runtime fails."),
            fault.get("next_step", ""),
        )
        for operation, fault in values.pop("fail", {}).items()
    }
    return FakeRuntime(FakeOptions(**values, fail=fail), folder=Path(folder) if folder else None)
