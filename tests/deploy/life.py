"""A workspace's life in a cluster in which the chart's accounts do the work, and nothing really runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.deploy.installed import Installed
from tests.runtime.k8s.conftest import LIMITS, patiently
from tests.runtime.k8s.test_copies import DIGEST
from tests.runtime.k8s.test_snapshots import NAME
from workspaces.runtime.k8s import K8sRuntime
from workspaces.runtime.k8s.names import place
from workspaces.runtime.port import Copying, CopyState, Presence, RunSpec, SnapshotRef

Json = dict[str, Any]


class Life:
    """A workspace's runs on a node that answers for what they wrote."""

    def __init__(self, here: Installed, node: str, name: str) -> None:
        self.here = here
        self.name = name
        self.at = place(here.config, name)
        self._node = node

    def begin(self, run: int, **changes: Any) -> None:
        """A run, by the worker, on the node."""
        worker = self.here.runtime("worker", **changes)
        patiently(lambda: worker.ensure_volume(self.name))
        patiently(lambda: worker.ensure_run(RunSpec(self.name, run, {}, {"run_token": "s3cret"}, LIMITS)))
        assert worker.observe(self.name).presence is not Presence.UNKNOWN
        target = {"apiVersion": "v1", "kind": "Node", "name": self._node}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": self.at.name}, "target": target}
        path = f"/api/v1/namespaces/{self.at.namespace}/pods/{self.at.name}/binding"
        self.here.cluster.kubectl("create", "--raw", path, "-f", "-", text=json.dumps(binding))

    def end(self, stop: Callable[[], object]) -> None:
        """Ask for the end, and do what the kubelet does then."""
        stop()
        where = ("--namespace", self.at.namespace, "--grace-period", "0", "--force")
        self.here.cluster.kubectl("delete", "pod", self.at.name, *where)

    def copy_by_storage(self) -> None:
        """A copy is made, brought back and forgotten; the controller's part is played here."""
        worker = self.here.runtime("worker", backup=None)
        made = self._made(worker, lambda: self._tell(NAME, "one", readyToUse=True, restoreSize="1Gi"))
        self._lose_volume()
        assert patiently(lambda: worker.restore(self.name, made)).state is CopyState.PRESENT
        patiently(lambda: worker.forget_snapshot(self.name, made))
        assert patiently(lambda: worker.forget_snapshot(self.name, made)).state is CopyState.ABSENT

    def copy_by_jobs(self) -> None:
        """The same with jobs, each of which is run by nobody and ends as a kubelet would say."""
        worker, repository = self.here.runtime("worker", snapshot_class=""), self.here.config.backup
        assert repository
        reference = f"{repository.repository}/{self.here.config.instance}/{self.name}@{DIGEST}"
        said = {"state": "done", "reference": reference, "digest": DIGEST, "stored": 1}
        made = self._made(worker, lambda: self._end_job("save-one", said))
        self._lose_volume()
        assert patiently(lambda: worker.restore(self.name, made)).state is CopyState.RUNNING
        self._end_job("restore", said)
        assert patiently(lambda: worker.restore(self.name, made)).state is CopyState.PRESENT
        assert patiently(lambda: worker.forget_snapshot(self.name, made)).state is CopyState.RUNNING
        self._end_job(f"forget-{DIGEST.removeprefix('sha256:')[:12]}", said)
        assert patiently(lambda: worker.forget_snapshot(self.name, made)).state is CopyState.ABSENT

    def _made(self, worker: K8sRuntime, act: Callable[[], object]) -> SnapshotRef:
        def ask() -> Copying:
            return patiently(lambda: worker.snapshot(self.name, key="one", created=datetime(2026, 11, 24, tzinfo=UTC)))

        assert ask().state is CopyState.RUNNING
        act()
        made = ask().snapshot
        assert made
        return made

    def _end_job(self, suffix: str, said: Json) -> None:
        state = {"terminated": {"exitCode": 0, "message": json.dumps(said)}}
        container = {"name": "backup", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}
        self._tell("pod", suffix, phase="Succeeded", containerStatuses=[container])

    def _tell(self, kind: str, suffix: str, **status: Any) -> None:
        self.here.cluster.kubectl(
            *("patch", kind, f"{self.at.name}-{suffix}", "--namespace", self.at.namespace),
            *("--subresource", "status", "--type", "merge", "--patch", json.dumps({"status": status})),
        )

    def _lose_volume(self) -> None:
        where = ("--namespace", self.at.namespace)
        self.here.cluster.kubectl("delete", "pvc", self.at.name, *where)
