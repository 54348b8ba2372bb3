"""Copies of volumes that the cluster's own storage makes, by the API of its snapshot controller.

A VolumeSnapshot lives in the workspace's namespace, and goes with it.
https://kubernetes.io/docs/concepts/storage/volume-snapshots/
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from kubernetes.utils import parse_quantity

from workspaces.runtime.errors import ClusterFault, PlatformFault, VolumeExists, VolumeInUse
from workspaces.runtime.k8s.client import Cluster, Object, Refusal
from workspaces.runtime.k8s.config import K8sConfig
from workspaces.runtime.k8s.faults import foreign
from workspaces.runtime.k8s.manifests import walls
from workspaces.runtime.k8s.manifests.parts import Manifest, manifest, size
from workspaces.runtime.k8s.names import INSTANCE, RESTORED, WORKSPACE, Place
from workspaces.runtime.port import Copying, CopyState, SnapshotRef

log = structlog.get_logger(__name__)

KIND = "csi"
GROUP = "snapshot.storage.k8s.io"
_KIND = "VolumeSnapshot"
_LONGEST_TEXT = 1_000


class Snapshots:
    """Copies by the storage.

    Args:
        cluster: where.
        config: whose.
    """

    def __init__(self, cluster: Cluster, config: K8sConfig) -> None:
        self._cluster = cluster
        self._config = config

    def known(self) -> bool:
        """Whether the cluster knows snapshots at all."""
        return self._cluster.knows(_KIND)

    def save(self, place: Place, key: str, *, in_use: bool) -> Copying:
        """See the port's `snapshot`."""
        name = _named(place, key)
        found = self._get(place, name)
        if found is None:
            if in_use:
                raise VolumeInUse(place.workspace)
            spec = {
                "volumeSnapshotClassName": self._config.snapshot_class,
                "source": {"persistentVolumeClaimName": place.name},
            }
            found = self._created(place, manifest(_KIND, f"{GROUP}/v1", place, name=name, spec=spec))
            log.info("snapshot_asked", workspace=place.workspace, snapshot=name)
        return _copying(place, found)

    def restore(self, place: Place, claim: Object | None, snapshot: SnapshotRef, *, in_use: bool) -> Copying:
        """See the port's `restore`. The storage fills the claim before any pod can use it."""
        if claim is not None:
            if claim["metadata"].get("annotations", {}).get(RESTORED) != snapshot.reference:
                raise VolumeExists(place.workspace, claim["metadata"]["uid"])
            return Copying(CopyState.PRESENT, snapshot)
        if in_use:
            raise VolumeInUse(place.workspace)
        found = self._get(place, _name(place, snapshot))
        if found is None:
            missing = ClusterFault(
                "backup_missing", "The storage does not have this copy.", "Choose another one.", temporary=False
            )
            return Copying(CopyState.FAILED, failure=missing)
        if (seen := _copying(place, found)).state is not CopyState.PRESENT:
            return seen
        self._create_claim(place, found, snapshot)
        return Copying(CopyState.PRESENT, snapshot)

    def forget(self, place: Place, snapshot: SnapshotRef) -> Copying:
        """See the port's `forget_snapshot`."""
        return self._delete(place, _name(place, snapshot))

    def call_off(self, place: Place, key: str) -> Copying:
        """See the port's `call_off_snapshot`."""
        return self._delete(place, _named(place, key))

    def _delete(self, place: Place, name: str) -> Copying:
        found = self._get(place, name)
        if found is None:
            return Copying(CopyState.ABSENT)
        meta = found["metadata"]
        if "deletionTimestamp" not in meta:
            self._cluster.delete(_KIND, place.namespace, meta["name"], uid=meta["uid"])
        return Copying(CopyState.RUNNING)

    def of(self, place: Place) -> Iterable[Object]:
        """All of a workspace's snapshots."""
        try:
            yield from self._cluster.all(_KIND, place.namespace, labelSelector=f"{WORKSPACE}={place.workspace}")
        except Refusal as refusal:
            if not refusal.not_found:
                raise

    def _get(self, place: Place, name: str) -> Object | None:
        found = self._cluster.get(_KIND, place.namespace, name)
        labels = found["metadata"].get("labels", {}) if found is not None else place.labels
        if labels.get(INSTANCE) != place.instance or labels.get(WORKSPACE) != place.workspace:
            raise foreign(place.namespace, _KIND)
        return found

    def _created(self, place: Place, wanted: Manifest) -> Object:
        try:
            return self._cluster.create(wanted)
        except Refusal as refusal:
            found = self._get(place, wanted["metadata"]["name"]) if refusal.already_exists else None
            if found is None:
                raise
            return found

    def _create_claim(self, place: Place, found: Object, snapshot: SnapshotRef) -> None:
        wanted = walls.claim(self._config, place)
        wanted["metadata"]["annotations"] = {RESTORED: snapshot.reference}
        # A volume cannot be smaller than what it is filled from.
        bytes_needed = max(self._config.volume_bytes, _size(found))
        wanted["spec"]["resources"] = {"requests": {"storage": size(bytes_needed)}}
        wanted["spec"]["dataSource"] = {"apiGroup": GROUP, "kind": _KIND, "name": found["metadata"]["name"]}
        self._cluster.create(wanted)
        log.info("volume_restored", workspace=place.workspace, snapshot=snapshot.reference)


def _copying(place: Place, found: Object) -> Copying:
    meta, status = found["metadata"], found.get("status") or {}
    if "deletionTimestamp" in meta:
        return Copying(CopyState.RUNNING, message="The copy is being deleted.")
    if status.get("readyToUse") is True:
        reference = SnapshotRef(KIND, f"{place.namespace}/{meta['name']}", size=_size(found))
        return Copying(CopyState.PRESENT, reference)
    message = str((status.get("error") or {}).get("message", ""))[:_LONGEST_TEXT]
    if message:
        # The controller goes on trying by itself, so the object stays.
        failure = ClusterFault(
            "snapshot_failed", f"The storage could not copy the workspace's files: {message}", "Ask the operator."
        )
        return Copying(CopyState.FAILED, failure=failure)
    return Copying(CopyState.RUNNING)


def _size(found: Object) -> int:
    text = (found.get("status") or {}).get("restoreSize")
    return int(parse_quantity(text)) if text else 0  # type: ignore[no-untyped-call]


def _named(place: Place, key: str) -> str:
    return f"{place.name}-{key}"


def _name(place: Place, snapshot: SnapshotRef) -> str:
    namespace, _, name = snapshot.reference.partition("/")
    if namespace != place.namespace:
        raise PlatformFault(
            "snapshot_elsewhere",
            "This copy can only be restored into the workspace that it is of.",
            "Choose another one.",
            log_text=f"{snapshot.reference} is not in {place.namespace}",
        )
    return name
