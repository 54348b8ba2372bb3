"""Copies of volumes against a real API server. What a node or a storage would say there, the test does."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kernel.errors import ClusterFault, UserFault
from tests.runtime.k8s.conftest import Stage, patiently
from tests.support.waiting import eventually
from workspaces.runtime.errors import (
    SnapshotsUnavailable,
    VolumeExists,
    VolumeInUse,
    VolumeMissing,
    VolumeRestoring,
)
from workspaces.runtime.k8s import Backup, K8sRuntime, Peer
from workspaces.runtime.port import Copying, CopyState, SnapshotRef

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
DIGEST = f"sha256:{'ab' * 32}"
BACKUP = Backup("registry.test:5000/backups", network=Peer(networks=("10.9.9.8/32",)), insecure=True)


class Copier(Stage):
    """The adapter with a registry, whose jobs end as the test says."""

    def copying(self, **changes: Any) -> K8sRuntime:
        return self.runtime(**{"backup": BACKUP, **changes})

    @property
    def repository(self) -> str:
        return f"registry.test:5000/backups/{self.values['instance']}/demo"

    def volume(self, runtime: K8sRuntime) -> None:
        patiently(lambda: runtime.ensure_volume("demo"))

    def save(self, runtime: K8sRuntime, key: str = "one") -> Copying:
        return patiently(lambda: runtime.snapshot("demo", key=key, created=NOW))

    def job(self, suffix: str) -> dict[str, Any]:
        return self.get("pod", f"-{suffix}")

    def end_job(self, suffix: str, said: dict[str, Any] | str, *, phase: str = "Succeeded", reason: str = "") -> None:
        """Report its end as its kubelet would."""
        message = said if isinstance(said, str) else json.dumps(said)
        ended = {"exitCode": 0 if phase == "Succeeded" else 1, "reason": reason or "Completed", "message": message}
        container = {"name": "backup", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
        self.tell(suffix, phase=phase, containerStatuses=[{**container, "state": {"terminated": ended}}])

    def tell(self, suffix: str, **status: Any) -> None:
        name = f"{self.prefix}demo"
        self.cluster.kubectl(
            *("patch", "pod", f"{name}-{suffix}", "--namespace", name, "--subresource", "status"),
            *("--type", "merge", "--patch", json.dumps({"status": status})),
        )

    def done(self) -> dict[str, Any]:
        reference = f"{self.repository}@{DIGEST}"
        return {"state": "done", "reference": reference, "digest": DIGEST, "stored": 1234, "entries": 2, "bytes": 5}

    @property
    def made(self) -> SnapshotRef:
        return SnapshotRef("oci", f"{self.repository}@{DIGEST}", DIGEST, 1234)


@pytest.fixture
def copier(stage: Stage) -> Copier:
    return Copier(stage.cluster, stage.values)


def test_a_copy_is_made_by_a_job_behind_walls_of_its_own(copier: Copier, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"auths": {"registry.test:5000": {"auth": "czNjcmV0"}}}')
    backup = Backup(BACKUP.repository, network=BACKUP.network, credentials=tmp_path / "config.json")
    runtime = copier.copying(backup=backup)
    with pytest.raises(VolumeMissing):
        runtime.snapshot("demo", key="one", created=NOW)
    copier.volume(runtime)
    assert copier.save(runtime).state is CopyState.RUNNING
    pod = copier.job("save-one")
    assert pod["metadata"]["labels"]["slipway.dev/job"] == "demo"
    assert "slipway.dev/workspace" not in pod["metadata"]["labels"]
    (container,) = pod["spec"]["containers"]
    assert set(container["resources"]["limits"]) == {"cpu", "memory", "ephemeral-storage"}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mounts = {mount["mountPath"]: mount.get("readOnly") for mount in container["volumeMounts"]}
    assert mounts == {"/volume": True, "/run/registry": True}
    assert "czNjcmV0" not in json.dumps(pod)
    assert copier.get("secret", "-registry")["data"]["config.json"]
    (policy,) = [copier.get("networkpolicy", "-jobs")["spec"]]
    assert policy["podSelector"] == {"matchLabels": {"slipway.dev/job": "demo"}}
    assert policy["egress"][0]["to"] == [{"ipBlock": {"cidr": "10.9.9.8/32"}}]
    assert sorted(port["port"] for port in policy["egress"][0]["ports"]) == [443, 5000]
    assert [(one.name, one.has_volume, str(one.presence)) for one in runtime.list()] == [("demo", True, "absent")]
    copier.end_job("save-one", copier.done())
    for _ in range(2):
        seen = copier.save(copier.copying())
        claim = copier.get("persistentvolumeclaim")["metadata"]["uid"]
        assert seen == Copying(CopyState.PRESENT, copier.made, volume=claim)
    assert copier.get("secret", "-registry") == {}


def test_many_callers_at_once_make_one_job(copier: Copier) -> None:
    runtime = copier.copying()
    copier.volume(runtime)
    with ThreadPoolExecutor(6) as pool:
        seen = list(pool.map(lambda _: copier.save(copier.copying()).state, range(6)))
    assert set(seen) == {CopyState.RUNNING}
    name = f"{copier.prefix}demo"
    assert len(copier.cluster.kubectl("get", "pods", "--namespace", name, "--output", "name").split()) == 1
    with pytest.raises(ClusterFault) as caught:
        runtime.snapshot("demo", key="two", created=NOW)
    assert (caught.value.code, caught.value.temporary) == ("runtime_busy", True)


def test_a_job_gets_no_more_than_its_workspace(copier: Copier) -> None:
    runtime = copier.copying(backup=Backup(BACKUP.repository, cpu=8, memory=2**36))
    copier.start(runtime)
    patiently(lambda: runtime.destroy_run("demo"))
    assert copier.save(runtime).state is CopyState.RUNNING
    limits = copier.job("save-one")["spec"]["containers"][0]["resources"]["limits"]
    assert (limits["cpu"], limits["memory"]) == ("1", "1Gi")


def test_a_workspace_that_runs_is_not_copied_and_its_start_calls_a_copy_off(copier: Copier) -> None:
    runtime = copier.copying()
    copier.start(runtime)
    with pytest.raises(VolumeInUse):
        runtime.snapshot("demo", key="one", created=NOW)
    patiently(lambda: runtime.destroy_run("demo"))
    copier.save(runtime)
    with pytest.raises(ClusterFault) as caught:
        runtime.ensure_run(copier.spec(run=2))
    assert (caught.value.code, caught.value.temporary) == ("runtime_busy", True)
    eventually(lambda: not copier.job("save-one"))
    patiently(lambda: runtime.ensure_run(copier.spec(run=2)))
    assert copier.get("pod")["metadata"]["labels"]["slipway.dev/run"] == "2"


@pytest.mark.parametrize(
    ("said", "reason", "code", "temporary"),
    [
        ({"code": "registry_away", "message": "Away.", "temporary": True}, "", "registry_away", True),
        ({"code": "registry_refused", "message": "No.", "temporary": False}, "", "registry_refused", False),
        ({"code": "UPPER", "message": "x"}, "Error", "job_failed", True),
        ("", "OOMKilled", "job_failed", True),
        ("not JSON", "Error", "job_failed", True),
        ("[1]", "Error", "job_failed", True),
    ],
)  # fmt: skip
def test_a_job_that_failed_is_told_and_the_next_call_tries_again(
    copier: Copier, said: dict[str, Any] | str, reason: str, code: str, temporary: bool
) -> None:
    runtime = copier.copying()
    copier.volume(runtime)
    copier.save(runtime)
    copier.end_job("save-one", said, phase="Failed", reason=reason)
    failed = copier.save(runtime)
    assert failed.state is CopyState.FAILED
    assert failed.failure is not None
    assert (failed.failure.code, failed.failure.temporary) == (code, temporary)
    eventually(lambda: not copier.job("save-one"))
    assert copier.get("secret", "-registry") == {}
    assert copier.save(runtime).state is CopyState.RUNNING


def test_what_its_owner_can_change_is_said_to_its_owner(copier: Copier) -> None:
    runtime = copier.copying()
    copier.volume(runtime)
    copier.save(runtime)
    said = {"state": "failed", "code": "volume_unreadable", "message": "“x” cannot be read.", "temporary": False}
    copier.end_job("save-one", said, phase="Failed")
    assert isinstance(copier.save(runtime).failure, UserFault)


def test_a_job_that_says_something_else_than_was_asked_is_not_believed(copier: Copier) -> None:
    runtime = copier.copying()
    copier.volume(runtime)
    copier.save(runtime)
    copier.end_job("save-one", {**copier.done(), "reference": f"evil.test/x@{DIGEST}"})
    with pytest.raises(Exception, match="job said"):
        runtime.snapshot("demo", key="one", created=NOW)


def test_a_silent_node_is_unknown(copier: Copier) -> None:
    runtime = copier.copying()
    copier.volume(runtime)
    copier.save(runtime)
    lost = [{"type": "Ready", "status": "False", "reason": "NodeNotReady"}]
    copier.tell("save-one", phase="Running", conditions=lost)
    assert copier.save(runtime).state is CopyState.UNKNOWN


def test_a_job_that_waits_says_for_what_and_one_that_can_never_start_has_failed(copier: Copier) -> None:
    runtime = copier.copying()
    copier.volume(runtime)
    copier.save(runtime)
    full = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}
    copier.tell("save-one", phase="Pending", conditions=[full])
    assert copier.save(runtime) == Copying(CopyState.RUNNING, message="0/3 nodes are available")
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "backup:1: not found"}}
    container = {"name": "backup", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": waiting}
    copier.tell("save-one", phase="Pending", containerStatuses=[container])
    failed = copier.save(runtime)
    assert failed.failure is not None
    assert (failed.state, failed.failure.code, failed.failure.temporary) == (
        CopyState.FAILED, "job_image_missing", False,
    )  # fmt: skip
    eventually(lambda: not copier.job("save-one"))


def test_a_volume_is_made_from_a_copy_and_no_run_starts_before_that(copier: Copier) -> None:
    runtime = copier.copying()
    for _ in range(2):
        assert patiently(lambda: runtime.restore("demo", copier.made)).state is CopyState.RUNNING
    mounts = copier.job("restore")["spec"]["containers"][0]["volumeMounts"]
    assert [mount.get("readOnly", False) for mount in mounts] == [False]
    with pytest.raises(VolumeRestoring):
        runtime.ensure_run(copier.spec())
    with pytest.raises(VolumeRestoring):
        copier.runtime().ensure_run(copier.spec())
    copier.end_job("restore", {"state": "failed", "code": "backup_damaged", "message": "x"}, phase="Failed")
    assert runtime.restore("demo", copier.made).state is CopyState.FAILED
    with pytest.raises(VolumeRestoring):
        runtime.ensure_run(copier.spec())
    eventually(lambda: not copier.job("restore"))
    assert patiently(lambda: runtime.restore("demo", copier.made)).state is CopyState.RUNNING
    copier.end_job("restore", copier.done())
    for _ in range(2):
        assert runtime.restore("demo", copier.made) == Copying(CopyState.PRESENT, copier.made)
    eventually(lambda: not copier.job("restore"))
    patiently(lambda: runtime.ensure_run(copier.spec()))
    other = SnapshotRef("oci", f"{copier.repository}@sha256:{'cd' * 32}", f"sha256:{'cd' * 32}")
    with pytest.raises(VolumeExists):
        runtime.restore("demo", other)


def test_a_volume_that_is_there_is_never_restored_over(copier: Copier) -> None:
    runtime = copier.copying()
    copier.volume(runtime)
    with pytest.raises(VolumeExists):
        runtime.restore("demo", copier.made)
    assert copier.job("restore") == {}
    assert not copier.get("persistentvolumeclaim")["metadata"].get("annotations", {}).get("slipway.dev/restoring")


def test_a_copy_is_forgotten_after_its_volume(copier: Copier) -> None:
    runtime = copier.copying()
    copier.volume(runtime)
    copier.save(runtime)
    with pytest.raises(ClusterFault) as caught:
        runtime.destroy_volume("demo")
    assert caught.value.code == "runtime_busy"
    patiently(lambda: runtime.destroy_volume("demo"))
    eventually(lambda: not copier.cluster.get("namespace", f"{copier.prefix}demo"), timeout=60)
    assert patiently(lambda: runtime.forget_snapshot("demo", copier.made)).state is CopyState.RUNNING
    suffix = f"forget-{DIGEST[7:19]}"
    assert copier.job(suffix)["spec"]["containers"][0].get("volumeMounts", []) == []
    copier.end_job(suffix, {"state": "done", "reference": copier.made.reference})
    for _ in range(2):
        assert runtime.forget_snapshot("demo", copier.made).state is CopyState.ABSENT
    patiently(lambda: runtime.destroy_volume("demo"))
    eventually(lambda: not copier.cluster.get("namespace", f"{copier.prefix}demo"), timeout=60)


def test_without_settings_there_are_no_copies(copier: Copier) -> None:
    runtime = copier.runtime()
    assert runtime.keeps_snapshots is False
    with pytest.raises(SnapshotsUnavailable):
        runtime.restore("demo", copier.made)
    # A class alone, in a cluster that knows no snapshots.
    other = copier.runtime(snapshot_class="fast")
    copier.volume(other)
    with pytest.raises(SnapshotsUnavailable):
        other.snapshot("demo", key="one", created=NOW)


def test_a_copy_is_called_off_before_it_is_forgotten(copier: Copier) -> None:
    runtime = copier.copying()
    copier.volume(runtime)
    copier.save(runtime)
    assert patiently(lambda: runtime.call_off_snapshot("demo", key="one")).state is CopyState.RUNNING
    eventually(lambda: not copier.job("save-one"))
    assert patiently(lambda: runtime.call_off_snapshot("demo", key="one")).state is CopyState.RUNNING
    (container,) = copier.job("forget-one")["spec"]["containers"]
    words = container["command"]
    assert words[words.index("forget") :] == ["forget", "--repository", copier.repository, "--key", "one"]
    copier.end_job("forget-one", {"state": "done"})
    for _ in range(2):
        assert patiently(lambda: runtime.call_off_snapshot("demo", key="one")).state is CopyState.ABSENT


def test_only_the_claim_that_was_copied_is_freed_and_its_place_stays(copier: Copier) -> None:
    runtime = copier.copying()
    copier.volume(runtime)
    uid = str(copier.get("persistentvolumeclaim")["metadata"]["uid"])
    assert runtime.free_volume("demo", volume="another").state is CopyState.ABSENT
    assert copier.get("persistentvolumeclaim")
    assert patiently(lambda: runtime.free_volume("demo", volume=uid)).state is CopyState.RUNNING
    eventually(lambda: runtime.free_volume("demo", volume=uid).state is CopyState.ABSENT)
    assert "deletionTimestamp" not in copier.cluster.get("namespace", f"{copier.prefix}demo")["metadata"]
    copier.start(runtime)
    assert runtime.free_volume("demo", volume=uid).state is CopyState.ABSENT
    newer = str(copier.get("persistentvolumeclaim")["metadata"]["uid"])
    with pytest.raises(VolumeInUse):
        runtime.free_volume("demo", volume=newer)
    assert "deletionTimestamp" not in copier.get("persistentvolumeclaim")["metadata"]
