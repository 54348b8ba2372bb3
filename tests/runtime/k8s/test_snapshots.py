"""Copies by the storage, and volumes that grow, against a real API server.

There is no snapshot controller and no storage here: their part is played by the test, which writes the status that
they would write. The kinds have the fields that the adapter uses, as the controller's project defines them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from kernel.errors import ClusterFault
from tests.cluster.access import Cluster
from tests.runtime.k8s.conftest import Stage, patiently
from tests.support.waiting import eventually
from workspaces.runtime.errors import VolumeExists, VolumeInUse, VolumeMissing
from workspaces.runtime.k8s import Backup, K8sRuntime
from workspaces.runtime.port import Copying, CopyState, SnapshotRef

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
GROUP = "snapshot.storage.k8s.io"
NAME = f"volumesnapshots.{GROUP}"
_ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_SOURCE = {"type": "object", "properties": {"persistentVolumeClaimName": {"type": "string"}}}
KIND: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    # The API server gives groups of Kubernetes' own only to who says that this was agreed.
    "metadata": {"name": NAME, "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-csi/external-snapshotter"}},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"kind": "VolumeSnapshot", "plural": "volumesnapshots", "singular": "volumesnapshot"},
        "versions": [{
            "name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": {
                "spec": {"type": "object", "required": ["source"], "properties": {
                    "source": _SOURCE, "volumeSnapshotClassName": {"type": "string"},
                }},
                "status": _ANYTHING,
            }}},
        }],
    },
}  # fmt: skip


class Storage(Stage):
    """The adapter in a cluster that knows snapshots, and what its controller would say."""

    def runtime(self, **changes: Any) -> K8sRuntime:
        return super().runtime(**{"snapshot_class": "fast", **changes})

    def save(self, runtime: K8sRuntime, key: str = "one") -> Copying:
        return patiently(lambda: runtime.snapshot("demo", key=key, created=NOW))

    def tell(self, key: str, **status: Any) -> None:
        name = f"{self.prefix}demo"
        self.cluster.kubectl(
            *("patch", NAME, f"{name}-{key}", "--namespace", name, "--subresource", "status"),
            *("--type", "merge", "--patch", json.dumps({"status": status})),
        )


@pytest.fixture
def storage(stage: Stage) -> Iterator[Storage]:
    cluster: Cluster = stage.cluster
    cluster.apply(KIND)
    cluster.kubectl("wait", "--for=condition=Established", f"crd/{NAME}", "--timeout=30s")
    yield Storage(cluster, stage.values)
    cluster.kubectl("delete", "crd", NAME, "--wait=true")


def test_a_copy_counts_when_the_storage_says_that_it_can_be_used(storage: Storage) -> None:
    runtime = storage.runtime()
    with pytest.raises(VolumeMissing):
        runtime.snapshot("demo", key="one", created=NOW)
    storage.start(runtime)
    with pytest.raises(VolumeInUse):
        runtime.snapshot("demo", key="one", created=NOW)
    patiently(lambda: runtime.destroy_run("demo"))
    for _ in range(2):
        assert storage.save(runtime).state is CopyState.RUNNING
    spec = storage.get(NAME, "-one")["spec"]
    assert spec == {
        "source": {"persistentVolumeClaimName": f"{storage.prefix}demo"}, "volumeSnapshotClassName": "fast",
    }  # fmt: skip
    storage.tell("one", readyToUse=False, error={"message": "the pool is full"})
    failed = storage.save(runtime)
    assert (failed.state, str(failed.failure)) == (
        CopyState.FAILED, "The storage could not copy the workspace's files: the pool is full",
    )  # fmt: skip
    storage.tell("one", readyToUse=True, restoreSize="10Gi", error=None)
    reference = SnapshotRef("csi", f"{storage.prefix}demo/{storage.prefix}demo-one", size=10 * 2**30)
    claim = storage.get("persistentvolumeclaim")["metadata"]["uid"]
    assert storage.save(runtime) == Copying(CopyState.PRESENT, reference, volume=claim)
    eventually(lambda: runtime.call_off_snapshot("demo", key="one").state is CopyState.ABSENT)
    assert not storage.get(NAME, "-one")


def test_a_claim_is_made_from_a_copy_which_outlives_its_volume(storage: Storage) -> None:
    runtime = storage.runtime()
    patiently(lambda: runtime.ensure_volume("demo"))
    storage.save(runtime)
    storage.tell("one", readyToUse=True, restoreSize="12Gi")
    found = storage.save(runtime).snapshot
    assert found is not None
    with pytest.raises(VolumeExists):
        runtime.restore("demo", found)
    patiently(lambda: runtime.destroy_volume("demo"))
    assert runtime.list() == []
    assert "deletionTimestamp" not in storage.cluster.get("namespace", f"{storage.prefix}demo")["metadata"]
    eventually(lambda: not storage.get("persistentvolumeclaim"))
    for _ in range(2):
        assert patiently(lambda: runtime.restore("demo", found)) == Copying(CopyState.PRESENT, found)
    claim = storage.get("persistentvolumeclaim")["spec"]
    assert claim["dataSource"] == {"apiGroup": GROUP, "kind": "VolumeSnapshot", "name": f"{storage.prefix}demo-one"}
    assert claim["resources"]["requests"]["storage"] == "12Gi"
    patiently(lambda: runtime.ensure_run(storage.spec(run=2)))
    patiently(lambda: runtime.destroy_run("demo"))
    eventually(lambda: runtime.forget_snapshot("demo", found).state is CopyState.ABSENT)
    patiently(lambda: runtime.destroy_volume("demo"))
    eventually(lambda: not storage.cluster.get("namespace", f"{storage.prefix}demo"), timeout=60)
    assert runtime.forget_snapshot("demo", found).state is CopyState.ABSENT
    assert runtime.restore("demo", found).state is CopyState.FAILED
    assert not storage.cluster.get("namespace", f"{storage.prefix}demo"), "nothing is made up for a copy that is gone"


def test_a_copy_of_another_workspace_is_refused(storage: Storage) -> None:
    with pytest.raises(Exception, match="is not in"):
        storage.runtime().restore("demo", SnapshotRef("csi", "elsewhere/snapshot"))


def test_a_namespace_with_copies_is_no_leftover(storage: Storage) -> None:
    runtime = storage.runtime()
    patiently(lambda: runtime.ensure_volume("demo"))
    storage.save(runtime)
    patiently(lambda: runtime.destroy_volume("demo"))
    eventually(lambda: not storage.get("persistentvolumeclaim"))
    operations = runtime.operations("test", None)  # type: ignore[arg-type]
    assert operations.clear("demo")
    assert "deletionTimestamp" not in storage.cluster.get("namespace", f"{storage.prefix}demo")["metadata"]


def test_a_cluster_that_knows_no_snapshots_gets_backups(stage: Stage) -> None:
    assert not stage.cluster.get("crd", NAME)
    runtime = stage.runtime(snapshot_class="fast", backup=Backup("registry.test:5000/backups"))
    patiently(lambda: runtime.ensure_volume("demo"))
    patiently(lambda: runtime.snapshot("demo", key="one", created=NOW))
    assert stage.get("pod", "-save-one")
    patiently(lambda: runtime.destroy_volume("demo"))
    eventually(lambda: not stage.cluster.get("namespace", f"{stage.prefix}demo"), timeout=60)


def bound(stage: Stage, *, expandable: bool) -> K8sRuntime:
    """A workspace whose claim has a volume of a class that lets it grow, or does not."""
    name = f"{stage.prefix}demo"
    storage_class = {
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
        "provisioner": "slipway.test/none", "allowVolumeExpansion": expandable, "reclaimPolicy": "Retain",
    }  # fmt: skip
    volume = {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": name,
            "hostPath": {"path": "/nowhere"}, "claimRef": {"name": name, "namespace": name},
            "persistentVolumeReclaimPolicy": "Retain",
        },
    }  # fmt: skip
    stage.cluster.apply(storage_class, volume)
    runtime = stage.runtime(storage_class=name, volume_bytes=2**30)
    stage.start(runtime)
    eventually(lambda: stage.get("persistentvolumeclaim").get("status", {}).get("phase") == "Bound", timeout=60)
    return stage.runtime(storage_class=name, volume_bytes=2 * 2**30)


def asked(stage: Stage) -> str:
    return str(stage.get("persistentvolumeclaim")["spec"]["resources"]["requests"]["storage"])


@pytest.fixture
def growing(stage: Stage) -> Iterator[Stage]:
    yield stage
    for kind in ("persistentvolume", "storageclass"):
        stage.cluster.kubectl("delete", kind, f"{stage.prefix}demo", "--ignore-not-found", "--wait=false")


def test_a_volume_grows_while_it_is_in_use(growing: Stage) -> None:
    larger = bound(growing, expandable=True)
    assert asked(growing) == "1Gi"
    for _ in range(2):
        patiently(lambda: larger.resize_volume("demo"))
        assert asked(growing) == "2Gi"
    assert growing.get("pod"), "it still runs"
    growing.runtime(volume_bytes=2**30).resize_volume("demo")
    assert asked(growing) == "2Gi"


def test_a_volume_grows_at_the_next_start_whatever_its_own_quota_said(growing: Stage) -> None:
    larger = bound(growing, expandable=True)
    patiently(lambda: larger.destroy_run("demo"))
    patiently(lambda: larger.ensure_run(growing.spec(run=2)))
    assert asked(growing) == "2Gi"


def test_a_volume_that_cannot_grow_says_why_and_starts_all_the_same(growing: Stage) -> None:
    larger = bound(growing, expandable=False)
    with pytest.raises(ClusterFault) as caught:
        patiently(lambda: larger.resize_volume("demo"))
    assert (caught.value.code, caught.value.temporary) == ("volume_not_grown", False)
    assert "storageclass" in caught.value.user_text
    patiently(lambda: larger.destroy_run("demo"))
    patiently(lambda: larger.ensure_run(growing.spec(run=2)))
    assert asked(growing) == "1Gi"
