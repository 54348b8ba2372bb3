"""Copies of volumes: by the storage where the cluster knows snapshots, else in a registry."""

from __future__ import annotations

from datetime import datetime

import structlog

from workspaces.runtime.errors import SnapshotsUnavailable, VolumeRestoring
from workspaces.runtime.k8s import backups, snapshots
from workspaces.runtime.k8s.backups import Backups
from workspaces.runtime.k8s.client import Cluster, Object
from workspaces.runtime.k8s.config import K8sConfig
from workspaces.runtime.k8s.names import RESTORING, Place
from workspaces.runtime.k8s.snapshots import Snapshots
from workspaces.runtime.port import Copying, SnapshotRef

log = structlog.get_logger(__name__)


class Copies:
    """What the port's operations on snapshots do.

    Args:
        cluster: where.
        config: whose, and which ways there are.
    """

    def __init__(self, cluster: Cluster, config: K8sConfig) -> None:
        self._snapshots = Snapshots(cluster, config) if config.snapshot_class else None
        self._backups = Backups(cluster, config, config.backup) if config.backup is not None else None

    @property
    def offered(self) -> bool:
        """Whether the settings name any way."""
        return self._snapshots is not None or self._backups is not None

    def by_storage(self) -> bool:
        """Whether new copies are the storage's: the settings name a class, and the cluster knows snapshots."""
        return self._snapshots is not None and self._snapshots.known()

    def must_be_offered(self, name: str) -> None:
        """Raise SnapshotsUnavailable unless the settings name a way."""
        if not self.offered:
            raise SnapshotsUnavailable(f"neither `snapshot_class` nor `backup` is set: {name}")

    def save(self, place: Place, claim: Object, key: str, created: datetime, *, in_use: bool) -> Copying:
        """See the port's `snapshot`."""
        if self._snapshots is not None:
            if self.by_storage():
                return self._snapshots.save(place, key, in_use=in_use)
            log.warning(
                "snapshots_unknown", workspace=place.workspace, instead="none" if self._backups is None else "oci"
            )
        if self._backups is None:
            raise SnapshotsUnavailable(f"no way to copy the volume of {place.workspace}")
        return self._backups.save(place, claim, key, created, in_use=in_use)

    def restore(self, place: Place, claim: Object | None, snapshot: SnapshotRef, *, in_use: bool) -> Copying:
        """See the port's `restore`."""
        return self._keeper(snapshot).restore(place, claim, snapshot, in_use=in_use)

    def forget(self, place: Place, snapshot: SnapshotRef) -> Copying:
        """See the port's `forget_snapshot`."""
        return self._keeper(snapshot).forget(place, snapshot)

    def call_off(self, place: Place, key: str) -> Copying:
        """See the port's `call_off_snapshot`."""
        if self._snapshots is not None and self.by_storage():
            return self._snapshots.call_off(place, key)
        if self._backups is None:
            raise SnapshotsUnavailable(f"no way to call off {key} of {place.workspace}")
        return self._backups.call_off(place, key)

    def make_way(self, place: Place, claim: Object) -> None:
        """Let a run have the volume; a snapshot that is under way is called off.

        Raises:
            VolumeRestoring: it is half restored.
            ClusterFault: "runtime_busy", temporary: a job still reads it.
        """
        if RESTORING in (claim["metadata"].get("annotations") or {}):
            raise VolumeRestoring(place.workspace)
        if self._backups is not None:
            self._backups.make_way(place, claim)

    def clear(self, place: Place) -> None:
        """End what is at work on a volume that goes.

        Raises:
            ClusterFault: "runtime_busy", temporary: something has not ended.
        """
        if self._backups is not None:
            self._backups.clear(place)

    def need_namespace(self, place: Place) -> bool:
        """Whether copies would go with the workspace's namespace."""
        if self._snapshots is None:
            return False
        return any("deletionTimestamp" not in one["metadata"] for one in self._snapshots.of(place))

    def _keeper(self, snapshot: SnapshotRef) -> Snapshots | Backups:
        keepers = {snapshots.KIND: self._snapshots, backups.KIND: self._backups}
        found = keepers.get(snapshot.kind)
        if found is None:
            raise SnapshotsUnavailable(f"no way to reach {snapshot.kind} {snapshot.reference}")
        return found
