"""Workspaces as pods: the port's operations, each a few requests to the API server that may be repeated."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from datetime import UTC, datetime

import structlog

from workspaces.runtime.errors import (
    ClusterFault,
    Failure,
    PlatformFault,
    SpecConflict,
    UserFault,
    VolumeInUse,
    VolumeMissing,
)
from workspaces.runtime.k8s import backups, faults, observing, podstatus
from workspaces.runtime.k8s.client import Cluster, Object, Refusal, Timeouts
from workspaces.runtime.k8s.config import K8sConfig
from workspaces.runtime.k8s.copies import Copies
from workspaces.runtime.k8s.faults import foreign, still_ending, translated, volume_ending
from workspaces.runtime.k8s.growing import grow
from workspaces.runtime.k8s.keeping import Logs, run_of
from workspaces.runtime.k8s.launching import Launcher
from workspaces.runtime.k8s.manifests import pod as pods
from workspaces.runtime.k8s.manifests import walls
from workspaces.runtime.k8s.names import CONTAINER, DIGEST, INSTANCE, RUN, WORKSPACE, Place, labelled, place, selector
from workspaces.runtime.k8s.operations import K8sOperations
from workspaces.runtime.names import checked_key
from workspaces.runtime.operating import Operations, Told
from workspaces.runtime.port import Copying, CopyState, Listed, Observation, Pace, Presence, RunSpec, SnapshotRef

log = structlog.get_logger(__name__)

_POD = "Pod"
_CLAIM = "PersistentVolumeClaim"
# Of a pod that cannot start there may be many; the reasons repeat.
_EVENTS = 100
# A start that is done within so many seconds need not be explained.
_BLINK = 3.0


class K8sRuntime:
    """The port's `Runtime` in a cluster; see `K8sConfig`. Safe to use from threads and processes at once.

    Nothing is remembered here but what the cluster can do: each operation looks first, and the names of all objects
    follow from the workspace's.
    """

    # The operator's watch tells what happens: thousands are not asked after one by one to find that all is well.
    pace = Pace(ending=2, starting=10, well=1800)

    def __init__(self, config: K8sConfig) -> None:
        self._config = config
        self._cluster = Cluster(config.kubeconfig, Timeouts(config.connect_seconds, config.read_seconds))
        self._launcher = Launcher(self._cluster, config)
        self._logs = Logs(self._cluster, config)
        self._copies = Copies(self._cluster, config)
        self._template = pods.template_digest(config)

    def ensure_volume(self, name: str) -> None:
        """See the port."""
        at = place(self._config, name)
        with translated(f"ensure_volume {name}"):
            self._ensure_namespace(at)
            self._config.on_step("namespace_made")
            if self._claim(at) is None:
                self._create_claim(at)

    def ensure_run(self, spec: RunSpec) -> Observation:
        """See the port. The volume must be there."""
        at = place(self._config, spec.name)
        if spec.readable:
            raise UserFault(
                "repository_unreachable",
                "A repository in a folder of the platform's machine cannot be reached from the cluster.",
                "Use an address that can be reached over the network.",
            )
        with translated(f"ensure_run {spec.name}"):
            claim = self._claim(at)
            if claim is None:
                raise VolumeMissing(spec.name)
            pod = self._pod(at)
            if pod is None:
                self._copies.make_way(at, claim)
                self._try_to_grow(at, claim)
                pod = self._launcher.launch(at, spec, self._pod)
            if pod["metadata"].get("annotations", {}).get(DIGEST) != spec.digest():
                raise SpecConflict(spec.name)
        return self._see(pod)

    def observe(self, name: str) -> Observation:
        """See the port."""
        at = place(self._config, name)
        try:
            with translated(f"observe {name}"):
                pod = self._pod(at)
                return self._see(pod, self._events(at) if pod is not None and _is_slow(pod) else ())
        except Failure as failure:
            log.warning("run_unknown", workspace=name, failure=failure.code, detail=failure.log_text)
            return Observation(Presence.UNKNOWN, reason=failure.code)

    def stop(self, name: str, *, grace: float) -> None:
        """See the port. The node asks politely, and ends it by force when the time is over."""
        at = place(self._config, name)
        with translated(f"stop {name}"):
            pod = self._pod(at)
            if pod is None or self._see(pod).presence is Presence.EXITED:
                return
            self._end(at, pod, math.ceil(grace))

    def destroy_run(self, name: str) -> None:
        """See the port.

        Raises:
            ClusterFault: "still_ending", temporary: the node has not said yet that the pod is gone.
        """
        at = place(self._config, name)
        with translated(f"destroy_run {name}"):
            pod = self._pod(at)
            if pod is not None:
                self._end(at, pod, 1)
                pod = self._pod(at)
            if pod is not None:
                raise still_ending(name)
            self._forget_secrets(at)

    def abandon_run(self, name: str) -> None:
        """See the port. The cluster then lets another machine have the disk."""
        at = place(self._config, name)
        with translated(f"abandon_run {name}"):
            pod = self._pod(at)
            if pod is not None and not observing.node_is_lost(pod):
                raise faults.machine_answers(name)
            if pod is not None:
                self._cluster.delete(_POD, at.namespace, at.name, uid=pod["metadata"]["uid"], forget=True)
                log.warning("run_abandoned", workspace=at.workspace, run=run_of(pod))
            self._forget_secrets(at)

    def destroy_volume(self, name: str) -> None:
        """See the port."""
        at = place(self._config, name)
        with translated(f"destroy_volume {name}"):
            if self._pod(at) is not None:
                raise PlatformFault(
                    "volume_in_use",
                    "The workspace is still running.",
                    "Stop it first, then delete it.",
                    log_text=f"a pod of {name} is there",
                )
            home = self._owned("Namespace", at, at.namespace) if self._config.layout == "own" else None
            self._copies.clear(at)
            self._delete(_CLAIM, at)
            self._config.on_step("claim_deleted")
            if self._config.layout == "own":
                if home is not None and not self._copies.need_namespace(at):
                    self._delete_namespace(at, home)
                return
            self.forget_walls(name)

    def free_volume(self, name: str, *, volume: str) -> Copying:
        """See the port. Its namespace stays, for the logs, and for snapshots that live in it."""
        at = place(self._config, name)
        self._copies.must_be_offered(name)
        with translated(f"free_volume {name}"):
            claim = self._owned(_CLAIM, at, at.name)
            if claim is None or claim["metadata"]["uid"] != volume:
                return Copying(CopyState.ABSENT)
            if self._pod(at) is not None:
                raise VolumeInUse(name)
            self._copies.clear(at)
            if "deletionTimestamp" not in claim["metadata"]:
                self._cluster.delete(_CLAIM, at.namespace, at.name, uid=volume)
            return Copying(CopyState.RUNNING)

    def forget_walls(self, name: str) -> None:
        """Delete what stands around a workspace in the shared namespace, and its logs; never its volume."""
        at = place(self._config, name)
        with translated(f"forget_walls {name}"):
            self._logs.forget(at)
            self._cluster.delete_all("Secret", at.namespace, labels=labelled(at))
            # The account is the first of them and goes last: what is left is found by it.
            for manifest in reversed(self._launcher.walls(at, RunSpec(name, 0, {}))):
                if manifest["kind"] != "Secret":
                    self._delete(manifest["kind"], at, manifest["metadata"]["name"])

    @property
    def keeps_snapshots(self) -> bool:
        """See the port."""
        return self._copies.offered

    def snapshot(self, name: str, *, key: str, created: datetime) -> Copying:
        """See the port."""
        at = place(self._config, name)
        checked_key(key)
        self._copies.must_be_offered(name)
        with translated(f"snapshot {name}"):
            claim = self._claim(at)
            if claim is None:
                raise VolumeMissing(name)
            seen = self._copies.save(at, claim, key, created, in_use=self._pod(at) is not None)
            made = seen.state is CopyState.PRESENT
            return dataclasses.replace(seen, volume=claim["metadata"]["uid"]) if made else seen

    def restore(self, name: str, snapshot: SnapshotRef) -> Copying:
        """See the port."""
        at = place(self._config, name)
        self._copies.must_be_offered(name)
        with translated(f"restore {name}"):
            self._ensure_namespace_of(at, snapshot)
            return self._copies.restore(at, self._claim(at), snapshot, in_use=self._pod(at) is not None)

    def forget_snapshot(self, name: str, snapshot: SnapshotRef) -> Copying:
        """See the port. A namespace that is there for that alone goes with `destroy_volume`."""
        at = place(self._config, name)
        self._copies.must_be_offered(name)
        with translated(f"forget_snapshot {name}"):
            self._ensure_namespace_of(at, snapshot)
            return self._copies.forget(at, snapshot)

    def call_off_snapshot(self, name: str, *, key: str) -> Copying:
        """See the port."""
        at = place(self._config, name)
        checked_key(key)
        self._copies.must_be_offered(name)
        with translated(f"call_off_snapshot {name}"):
            if not self._copies.by_storage():
                self._ensure_namespace(at)
            return self._copies.call_off(at, key)

    def resize_volume(self, name: str) -> None:
        """See the port."""
        at = place(self._config, name)
        with translated(f"resize_volume {name}"):
            claim = self._claim(at)
            if claim is None:
                raise VolumeMissing(name)
            try:
                grow(self._cluster, self._config, at, claim)
            except Refusal as refusal:
                raise faults.not_grown(refusal) from refusal

    def _ensure_namespace_of(self, at: Place, snapshot: SnapshotRef) -> None:
        # What the storage keeps is in the namespace, or is gone with it.
        if snapshot.kind == backups.KIND:
            self._ensure_namespace(at)

    def operations(self, identity: str, told: Told) -> Operations:
        """See `workspaces.runtime.operating.Operable`."""
        return K8sOperations(self._config, self, identity, told)

    def list(self) -> list[Listed]:
        """See the port."""
        with translated("list"):
            chosen, within = selector(self._config), self._config.namespace
            claims = {
                _workspace_of(claim)
                for claim in self._cluster.all(_CLAIM, within, labelSelector=chosen)
                if "deletionTimestamp" not in claim["metadata"] and self._in_its_place(claim)
            }
            found = self._cluster.all(_POD, within, labelSelector=chosen)
            running = {_workspace_of(pod): pod for pod in found if self._in_its_place(pod)}
        return [
            Listed(name, has_volume=name in claims, presence=self._see(running.get(name)).presence)
            for name in sorted(claims | running.keys())
        ]

    def logs(self, name: str, *, run: int | None = None, limit: int = 1_048_576) -> bytes:
        """See the port. Of runs whose pod is gone, only the end was kept."""
        at = place(self._config, name)
        with translated(f"logs {name}"):
            pod = self._pod(at)
            if pod is not None and run in {None, run_of(pod)}:
                text = self._cluster.logs(at.namespace, at.name, CONTAINER, limit=limit)
                if text or run_of(pod) is None:
                    return text
                run = run_of(pod)
            number = run if run is not None else self._logs.latest(at)
            text = b"" if number is None else self._logs.read(at, number)
        return text if len(text) <= limit else text[text.find(b"\n", len(text) - limit) + 1 :]

    def _in_its_place(self, found: Object) -> bool:
        """Whether it lies where a workspace's objects do: anybody can write our labels on objects of their own."""
        try:
            at = place(self._config, _workspace_of(found))
        except PlatformFault:
            return False
        return (found["metadata"]["namespace"], found["metadata"]["name"]) == (at.namespace, at.name)

    def _see(self, pod: Object | None, events: Iterable[Object] = ()) -> Observation:
        return observing.observe(pod, door_port=self._config.door_port, template=self._template, events=events)

    def _events(self, at: Place) -> Iterable[Object]:
        """What was said lately about the workspace's pod and claim, which have the same name."""
        chosen = f"involvedObject.name={at.name}"
        found: list[Object] = self._cluster.page("Event", at.namespace, fieldSelector=chosen, limit=_EVENTS)["items"]
        return found

    def _pod(self, at: Place) -> Object | None:
        return self._owned(_POD, at, at.name)

    def _claim(self, at: Place) -> Object | None:
        claim = self._owned(_CLAIM, at, at.name)
        if claim is not None and "deletionTimestamp" in claim["metadata"]:
            raise volume_ending(at.workspace)
        return claim

    def _owned(self, kind: str, at: Place, name: str) -> Object | None:
        """The object if it is there and ours; one that is somebody else's is an error, never ours to touch."""
        found = self._cluster.get(kind, at.namespace, name)
        labels = found["metadata"].get("labels", {}) if found is not None else at.labels
        if labels.get(INSTANCE) != at.instance or labels.get(WORKSPACE) != at.workspace:
            raise foreign(at.namespace, kind)
        return found

    def _ensure_namespace(self, at: Place) -> None:
        if self._config.layout == "shared":
            return
        found = self._owned("Namespace", at, at.namespace)
        if found is not None and "deletionTimestamp" in found["metadata"]:
            raise faults.namespace_ending(f"namespace {at.namespace} is terminating")
        self._cluster.apply(walls.namespace(at))

    def _create_claim(self, at: Place) -> None:
        try:
            self._cluster.create(walls.claim(self._config, at))
        except Refusal as refusal:
            if not refusal.already_exists:
                raise

    def _try_to_grow(self, at: Place, claim: Object) -> None:
        """A volume grows with the settings where its storage can; a workspace starts without that as well."""
        try:
            grow(self._cluster, self._config, at, claim)
        except Refusal as refusal:
            log.warning("volume_not_grown", workspace=at.workspace, detail=refusal.message)

    def _end(self, at: Place, pod: Object, grace: int) -> None:
        meta = pod["metadata"]
        if "deletionTimestamp" not in meta:
            self._keep_log(at, pod)
            self._config.on_step("log_kept")
        elif int(meta.get("deletionGracePeriodSeconds") or 0) <= max(1, grace):
            return
        self._cluster.delete(_POD, at.namespace, at.name, uid=meta["uid"], grace=grace)
        # What it was handed is mounted already; nobody else needs it.
        self._forget_secrets(at)
        log.info("run_stop_asked", workspace=at.workspace, run=run_of(pod), grace=grace)

    def _keep_log(self, at: Place, pod: Object) -> None:
        """As well as one can: a node that does not hand out what was written must not keep a workspace from ending."""
        try:
            self._logs.keep(at, pod)
        except (Refusal, ClusterFault) as error:
            log.warning("log_not_kept", workspace=at.workspace, run=run_of(pod), detail=str(error))

    def _forget_secrets(self, at: Place) -> None:
        # The right to list them would be one to read them, in every namespace: admission does not look at reading.
        self._cluster.delete_all("Secret", at.namespace, labels=f"{labelled(at)},{RUN}")

    def _delete(self, kind: str, at: Place, name: str = "") -> None:
        found = self._owned(kind, at, name or at.name)
        if found is not None and "deletionTimestamp" not in found["metadata"]:
            self._cluster.delete(kind, at.namespace, name or at.name, uid=found["metadata"]["uid"])

    def _delete_namespace(self, at: Place, home: Object) -> None:
        """Only an empty one: a claim that somebody else made in it is not ours to delete with it.

        Args:
            home: as it was seen before anything was deleted; one that was made since is another workspace's life.
        """
        for left in self._cluster.all(_CLAIM, at.namespace):
            if left["metadata"].get("labels", {}).get(INSTANCE) != at.instance:
                raise foreign(at.namespace, _CLAIM)
        if "deletionTimestamp" not in home["metadata"]:
            self._cluster.delete("Namespace", "", at.namespace, uid=home["metadata"]["uid"])


def _is_slow(pod: Object) -> bool:
    """Whether a start takes so long that one wants to know why. Where clocks differ much, it always does."""
    if not observing.is_starting(pod):
        return False
    made = podstatus.time(pod["metadata"].get("creationTimestamp"))
    return made is None or not 0 <= (datetime.now(UTC) - made).total_seconds() < _BLINK


def _workspace_of(owned: Object) -> str:
    return str(owned["metadata"]["labels"][WORKSPACE])
