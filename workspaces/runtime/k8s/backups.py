"""Copies of volumes in a registry, each made and brought back by a job in the workspace's own place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import structlog

from workspaces.runtime.errors import ClusterFault, PlatformFault, VolumeExists, VolumeInUse, VolumeRestoring
from workspaces.runtime.k8s.client import Cluster, Object
from workspaces.runtime.k8s.config import Backup, K8sConfig
from workspaces.runtime.k8s.jobs import Jobs, Outcome, is_over
from workspaces.runtime.k8s.manifests import walls
from workspaces.runtime.k8s.manifests.job import VOLUME, Task
from workspaces.runtime.k8s.names import RESTORED, RESTORING, SAVING, Place
from workspaces.runtime.port import Copying, CopyState, SnapshotRef

log = structlog.get_logger(__name__)

KIND = "oci"
_CLAIM = "PersistentVolumeClaim"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Backups:
    """Copies in a registry.

    Args:
        cluster: where.
        config: whose.
        backup: which registry, and what a job may use.
    """

    def __init__(self, cluster: Cluster, config: K8sConfig, backup: Backup) -> None:
        self._cluster = cluster
        self._config = config
        self._backup = backup
        self._jobs = Jobs(cluster, config, backup)

    def save(self, place: Place, claim: Object, key: str, created: datetime, *, in_use: bool) -> Copying:
        """See the port's `snapshot`. The registry remembers which keys are done, so a job may be forgotten."""
        repository = self._repository(place)
        about = ("--workspace", place.workspace, "--key", key, "--created", created.isoformat())
        how = ("--root", VOLUME, "--level", str(self._backup.level), "--check", self._backup.check)
        task = Task(_job(place, "save", key), ("save", "--repository", repository, *about, *how), "read")
        found = self._jobs.look(place, task.name)
        if found is None:
            if in_use:
                raise VolumeInUse(place.workspace)
            self._take_turns(place, claim)
            self._note(place, {SAVING: task.name})
            return self._jobs.launch(place, task)
        if found.copying.state is CopyState.PRESENT:
            self._jobs.forget_secret(place)
            return Copying(CopyState.PRESENT, _reference(found.said, repository))
        return self._settled(place, found)

    def restore(self, place: Place, claim: Object | None, snapshot: SnapshotRef, *, in_use: bool) -> Copying:
        """See the port's `restore`. The claim remembers how far it is."""
        notes = _notes(claim)
        if notes.get(RESTORED) == snapshot.reference:
            return Copying(CopyState.PRESENT, snapshot)
        if claim is not None and notes.get(RESTORING) != snapshot.reference:
            raise VolumeExists(place.workspace, claim["metadata"]["uid"])
        if in_use:
            raise VolumeInUse(place.workspace)
        arguments = ("restore", "--reference", snapshot.reference, "--root", VOLUME)
        task = Task(_job(place, "restore"), arguments, "write")
        found = self._jobs.look(place, task.name)
        if found is None:
            if claim is None:
                manifest = walls.claim(self._config, place)
                manifest["metadata"]["annotations"] = {RESTORING: snapshot.reference}
                self._cluster.create(manifest)
            return self._jobs.launch(place, task)
        if found.copying.state is CopyState.PRESENT:
            self._note(place, {RESTORING: None, RESTORED: snapshot.reference})
            self._jobs.clear(place, found.pod)
            log.info("volume_restored", workspace=place.workspace, snapshot=snapshot.reference)
            return Copying(CopyState.PRESENT, snapshot)
        return self._settled(place, found)

    def forget(self, place: Place, snapshot: SnapshotRef) -> Copying:
        """See the port's `forget_snapshot`."""
        name = _job(place, "forget", snapshot.digest.removeprefix("sha256:")[:12])
        return self._forgotten(place, Task(name, ("forget", "--reference", snapshot.reference), ""))

    def call_off(self, place: Place, key: str) -> Copying:
        """See the port's `call_off_snapshot`: who may still store a copy ends first, so that none comes afterwards."""
        saving = self._jobs.look(place, _job(place, "save", key))
        if saving is not None and not is_over(saving.pod):
            if saving.copying.state is CopyState.UNKNOWN:
                return saving.copying
            self._jobs.clear(place, saving.pod)
            return Copying(CopyState.RUNNING, message="The job that makes the copy is ending.")
        arguments = ("forget", "--repository", self._repository(place), "--key", key)
        return self._forgotten(place, Task(_job(place, "forget", key), arguments, ""))

    def _forgotten(self, place: Place, task: Task) -> Copying:
        found = self._jobs.look(place, task.name)
        if found is None:
            return self._jobs.launch(place, task)
        if found.copying.state is CopyState.PRESENT:
            self._jobs.forget_secret(place)
            return Copying(CopyState.ABSENT)
        return self._settled(place, found)

    def make_way(self, place: Place, claim: Object) -> None:
        """Let a run have the volume.

        Raises:
            ClusterFault: "runtime_busy", temporary: a job still reads it; it has been called off.
        """
        notes = _notes(claim)
        found = self._jobs.look(place, notes[SAVING]) if SAVING in notes else None
        if found is not None and not is_over(found.pod):
            self._jobs.clear(place, found.pod)
            log.info("snapshot_called_off", workspace=place.workspace, job=notes[SAVING])
            raise _busy(f"{notes[SAVING]} reads the volume")

    def clear(self, place: Place) -> None:
        """Remove all jobs before their volume goes.

        Raises:
            ClusterFault: "runtime_busy", temporary: one has not ended.
        """
        jobs = self._jobs.of(place)
        for pod in jobs:
            self._jobs.clear(place, pod)
        if any(not is_over(pod) for pod in jobs):
            raise _busy("a job is still ending")

    def _take_turns(self, place: Place, claim: Object) -> None:
        other = _notes(claim).get(SAVING)
        found = self._jobs.look(place, other) if other else None
        if found is not None and not is_over(found.pod):
            raise _busy(f"{other} reads the volume")
        if RESTORING in _notes(claim):
            raise VolumeRestoring(place.workspace)

    def _settled(self, place: Place, found: Outcome) -> Copying:
        """The answer for a job that is not done; one that failed is removed, so that the next call tries again."""
        if found.copying.state is CopyState.FAILED:
            self._jobs.clear(place, found.pod)
            failure = found.copying.failure
            log.warning(
                "job_failed",
                workspace=place.workspace,
                job=found.pod["metadata"]["name"],
                failure=failure.code if failure else "",
                detail=failure.log_text if failure else "",
            )
        return found.copying

    def _note(self, place: Place, notes: Mapping[str, str | None]) -> None:
        self._cluster.patch(_CLAIM, place.namespace, place.name, {"metadata": {"annotations": dict(notes)}})

    def _repository(self, place: Place) -> str:
        return f"{self._backup.repository}/{self._config.instance}/{place.workspace}"


def _job(place: Place, *words: str) -> str:
    return "-".join((place.name, *words))


def _notes(claim: Object | None) -> Mapping[str, str]:
    found: Mapping[str, str] = (claim or {"metadata": {}})["metadata"].get("annotations") or {}
    return found


def _reference(said: Mapping[str, Any], repository: str) -> SnapshotRef:
    """What a job says that it made, if it makes sense."""
    digest, reference, size = str(said.get("digest")), str(said.get("reference")), said.get("stored")
    if not _DIGEST.fullmatch(digest) or reference != f"{repository}@{digest}" or not isinstance(size, int):
        raise PlatformFault(
            "snapshot_unclear",
            "A copy was made, but it is not clear where.",
            "Ask the operator to look at the log.",
            log_text=f"the job said {dict(said)}",
        )
    return SnapshotRef(KIND, reference, digest, size)


def _busy(log_text: str) -> ClusterFault:
    return ClusterFault(
        "runtime_busy",
        "The workspace's files are still being copied.",
        "Wait a moment; Slipway tries again by itself.",
        log_text=log_text,
        retry_after=2,
    )
