"""The runtime port: what every place that can run a workspace offers.

All operations are idempotent, work on deterministic names and never wait for a process or a pod: they look, act and
return. Already there is fine when the specification's hash matches; already gone is fine. `observe` tells *absent*,
*present* and *unknown* apart, because no answer must never be read as "stopped".
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from workspaces.runtime.errors import Failure

HOPELESS = frozenset({"image_missing", "image_refused", "image_invalid", "pod_refused", "not_started"})
"""Reasons of a run that is there and will never come up, however long one waits."""
REFUSED = 78
"""The agent's exit code when what it was handed makes no sense to it, however often it is tried (EX_CONFIG)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use. None means no limit of its own.

    cpu is in cores, memory and disk in bytes, processes a count.
    """

    cpu: float | None = None
    memory: int | None = None
    processes: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything a runtime must know to run a workspace once.

    Attributes:
        name: DNS label, unique among workspaces and the same for each of its runs: also the volume's name.
        run: identifies this run of the workspace; grows with each start.
        agent: the document handed to the agent (see `agent.spec`), JSON-serialisable, without secrets.
        secrets: handed to the agent apart from the document; never part of the hash, a log or a listing.
        limits: resources.
        readable: absolute paths of the platform's machine that the run may read at the same place, such as a
            repository in a folder. Adapters that run elsewhere refuse a spec that has any.
    """

    name: str
    run: int
    agent: Mapping[str, Any]
    secrets: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    limits: Limits = Limits()
    readable: tuple[str, ...] = ()

    def digest(self) -> str:
        """Hex SHA-256 over all but the secrets: equal digests mean the same run."""
        document = {
            "name": self.name,
            "run": self.run,
            "agent": dict(self.agent),
            "limits": dataclasses.asdict(self.limits),
            "readable": self.readable,
        }
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


@dataclasses.dataclass(frozen=True, slots=True)
class Pace:
    """How often somebody has to look at a workspace of a runtime. Times in seconds.

    What tells of changes by itself (`manage.py operator`) need not be asked often; looking is then for what was missed.

    Attributes:
        ending: while it is ended.
        starting: while it starts, or nobody can tell how it is.
        well: while it runs and all is well.
    """

    ending: float
    starting: float
    well: float


LOOKED_AT = Pace(ending=0.5, starting=2, well=15)
"""For a runtime that never says a word."""


class Presence(enum.StrEnum):
    """What a look at a run found."""

    ABSENT = "absent"  # Nothing of it is left running; its volume may well exist.
    RUNNING = "running"  # Its processes are alive. Says nothing about the IDE.
    EXITED = "exited"  # It ended by itself and has not been destroyed yet.
    UNKNOWN = "unknown"  # Could not tell. Never act on this.


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One step of a start that the runtime itself knows of, for its owner to see while they wait.

    Attributes:
        type: "scheduled", "volume", "image" or "container".
        status: "waiting", "running", "done" or "failed".
        code: a short word where something is the matter.
        message: for people; the cluster's own words where those say most.
        next_step: what its owner can do, where there is something.
        started_at, finished_at: by the runtime's clock, where it says.
    """

    type: str
    status: str
    code: str = ""
    message: str = ""
    next_step: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Observation:
    """The answer of `observe`.

    Attributes:
        run, digest: of the run found; None when absent or unknown.
        exit_code: 0..255, or negative for the signal that ended it; None unless exited, or when nobody saw it end.
        reason: a short code where there is more to say, empty otherwise: "starting" (accepted, but nothing runs yet, so
            `started_at` is None), "ending" (asked to end), one of `HOPELESS`, "oom_killed", "evicted", "rebooted" or
            "supervisor_lost" (ended unseen), "node_lost" (unknown, because its machine is silent).
        upstream: how the gateway reaches it. On the same machine {"ide": "unix:/abs/path", "ports": "unix:/abs/dir"};
            from others {"ide": "tcp://host:port", "ports": "tcp://host:port"} (an IPv6 address in brackets), both the
            door that the agent opens where SLIPWAY_DOOR tells it. The key is in the run's secrets, never in here.
        warnings: codes for the owner, such as "no_sandbox" when the workspace runs as a plain process.
        steps: how far the start is, in order, where the runtime can tell; empty for one that starts in a blink.
    """

    presence: Presence
    run: int | None = None
    digest: str | None = None
    started_at: datetime | None = None
    exit_code: int | None = None
    reason: str = ""
    upstream: Mapping[str, str] = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Listed:
    """One entry of `list`: a volume, a run or both, under one name."""

    name: str
    has_volume: bool
    presence: Presence


class CopyState(enum.StrEnum):
    """How far a snapshot, a restore or its forgetting is."""

    RUNNING = "running"  # Under way. Ask again by the same call.
    PRESENT = "present"  # Done, and verified where that can be done.
    ABSENT = "absent"  # Forgotten.
    FAILED = "failed"  # This attempt is over and leaves nothing that could be taken for a whole. A call makes another.
    UNKNOWN = "unknown"  # Could not tell. Never act on this.


@dataclasses.dataclass(frozen=True, slots=True)
class SnapshotRef:
    """Where the copy of a volume is. Plain values, to be kept as they are for as long as the copy is wanted.

    Attributes:
        kind: who keeps it, as the runtime knows it: "csi" (the cluster's storage) or "oci" (a registry).
        reference: its address there.
        digest: of its content, "sha256:" and 64 hex digits; empty where the storage has none.
        size: bytes that it takes there; 0 where nobody says.
    """

    kind: str
    reference: str
    digest: str = ""
    size: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Copying:
    """The answer of `snapshot`, `restore` and `forget_snapshot`.

    Attributes:
        snapshot: when present.
        failure: when failed; its `temporary` says whether another attempt makes sense.
        message: what is waited for, where the runtime can tell; for people.
        volume: of `snapshot`, when present: names the very volume that was copied, and no other that is ever made.
    """

    state: CopyState
    snapshot: SnapshotRef | None = None
    failure: Failure | None = None
    message: str = ""
    volume: str = ""


class Runtime(Protocol):
    """A place where workspaces run. Raises only `kernel.errors.Failure` (see `workspaces.runtime.errors`).

    `pace` says how often it has to be asked. Where `keeps_snapshots` is False, whatever has to do with copies raises
    SnapshotsUnavailable.

    Whatever changes a workspace may raise the temporary ClusterFault("runtime_busy"): somebody else is at work on it,
    and did not end within seconds. Looking (`observe`, `list`, `logs`) never does.
    """

    pace: Pace

    def ensure_volume(self, name: str) -> None:
        """Make sure the workspace's storage exists; keeps what is on it. Called until its first run was accepted."""
        ...

    def ensure_run(self, spec: RunSpec) -> Observation:
        """Make sure this run has been started, and return what is seen right after.

        Called again with the same digest it starts nothing, also when both calls come at once from two processes.

        Raises:
            SpecConflict: a run with another digest is still there. It is never killed for that.
            VolumeMissing: `ensure_volume` was never called, or what it made has vanished. An empty one is never made up
                on the way: its owner would believe that the files are there.
        """
        ...

    def observe(self, name: str) -> Observation:
        """Look, without changing anything."""
        ...

    def stop(self, name: str, *, grace: float) -> None:
        """Ask the run to end: politely at first, by force once `grace` seconds have passed since the first ask.

        Returns at once. Call it again until `observe` says exited or absent.
        """
        ...

    def destroy_run(self, name: str) -> None:
        """Remove what is left of a run that ended, after which it is absent. Ends what still lives, by force.

        The volume stays, and so do its logs.
        """
        ...

    def abandon_run(self, name: str) -> None:
        """Forget a run whose machine is off for good, by an administrator's word, without an answer from there.

        Where machines always answer it is `destroy_run`.

        Raises:
            UserFault: "machine_answers": it is not silent, and will end the run itself.
        """
        ...

    def destroy_volume(self, name: str) -> None:
        """Delete the workspace's storage for good. Refuses with PlatformFault("volume_in_use") while a run is there.

        It is not listed any more from the first moment on, though deleting may take minutes. Where that was cut short,
        call it again: what was left is deleted then.
        """
        ...

    def free_volume(self, name: str, *, volume: str) -> Copying:
        """Delete one volume of the workspace and nothing else, because there is a copy; absent once it is gone.

        Another volume than this one is left alone, and this one counts as gone then: a caller that comes late must not
        meet what was made since.

        Args:
            volume: as `snapshot` or VolumeExists named it.

        Raises:
            VolumeInUse: a run is there that was not destroyed.
        """
        ...

    def list(self) -> list[Listed]:
        """Everything this runtime knows, to find what nobody remembers."""
        ...

    def logs(self, name: str, *, run: int | None = None, limit: int = 1_048_576) -> bytes:
        """The last `limit` bytes of what the agent wrote (JSON lines), of the latest run unless `run` says which.

        Readable while it runs and after it ended; empty when nothing was ever written.
        """
        ...

    @property
    def keeps_snapshots(self) -> bool:
        """Whether volumes can be copied, as the settings say."""
        ...

    def snapshot(self, name: str, *, key: str, created: datetime) -> Copying:
        """Make sure that there is a copy of the workspace's volume. Present only when it was verified to be whole.

        A start calls off one that is under way.

        Args:
            key: 1 to 40 lower-case letters and digits, unique among the workspace's snapshots for good: the same key
                never makes two, whoever calls and however often.
            created: noted in the copy: when it was first asked for.

        Raises:
            VolumeMissing: there is nothing to copy.
            VolumeInUse: a run is there that was not destroyed.
        """
        ...

    def restore(self, name: str, snapshot: SnapshotRef) -> Copying:
        """Make the workspace's volume from a copy, which stays. Until it is done, no run can start on it.

        A volume that `restore` made from this copy counts as done, whatever has been written to it since.

        Raises:
            VolumeExists: there is another volume already, which it names. It is never written over.
        """
        ...

    def forget_snapshot(self, name: str, snapshot: SnapshotRef) -> Copying:
        """Delete a copy for good; absent when that is done. `destroy_volume` leaves copies alone.

        After a restore, only once the workspace has run: storage may fill a volume from the copy when it is first used.
        """
        ...

    def call_off_snapshot(self, name: str, *, key: str) -> Copying:
        """End a snapshot that may be under way, and delete what it may have made; absent when that is done.

        For who has no SnapshotRef, because the snapshot was never seen to be present. The key is spent after that.
        """
        ...

    def resize_volume(self, name: str) -> None:
        """Make the volume as large as the settings say, also while it is in use. It never shrinks.

        Raises:
            VolumeMissing: there is none.
            ClusterFault: "volume_not_grown": its storage does not allow it; the text says why.
        """
        ...
