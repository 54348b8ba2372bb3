"""Jobs beside a workspace: pods that run once, in its place and behind its walls, and say in the end what came of it.

Nothing is remembered here: a job's name follows from its task, and each look asks the API server.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

import structlog
from kubernetes.utils import parse_quantity

from workspaces.runtime.errors import ClusterFault, Failure, UserFault
from workspaces.runtime.k8s import faults, observing, podstatus
from workspaces.runtime.k8s.client import Cluster, Object, Refusal
from workspaces.runtime.k8s.config import Backup, K8sConfig
from workspaces.runtime.k8s.manifests import job as manifests
from workspaces.runtime.k8s.manifests import network, walls
from workspaces.runtime.k8s.manifests.job import Task
from workspaces.runtime.k8s.manifests.pod import pull_secret
from workspaces.runtime.k8s.names import INSTANCE, JOB, Place
from workspaces.runtime.k8s.settings import text_of
from workspaces.runtime.port import Copying, CopyState, Limits

log = structlog.get_logger(__name__)

_POD = "Pod"
# What a workspace's owner can change; the rest is the cluster's affair.
_OWNERS = {"volume_unreadable"}
_CODE = re.compile(r"[a-z][a-z_]{2,40}")
_LONGEST_TEXT = 1_000


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How a job is.

    Attributes:
        copying: as the port tells it; present when it is done.
        said: what it said in the end.
        pod: its pod.
    """

    copying: Copying
    said: Mapping[str, Any]
    pod: Object


class Jobs:
    """The jobs of one installation.

    Args:
        cluster: where.
        config: whose.
        backup: what they need to know about the registry.
    """

    def __init__(self, cluster: Cluster, config: K8sConfig, backup: Backup) -> None:
        self._cluster = cluster
        self._config = config
        self._backup = backup

    def look(self, place: Place, name: str) -> Outcome | None:
        """How a job is; None when there is none."""
        pod = self._cluster.get(_POD, place.namespace, name)
        if pod is None:
            return None
        labels = pod["metadata"].get("labels", {})
        if labels.get(INSTANCE) != place.instance or labels.get(JOB) != place.workspace:
            raise faults.foreign(place.namespace, _POD)
        return _outcome(pod)

    def launch(self, place: Place, task: Task) -> Copying:
        """Start a job, unless it is there; the walls first. Those that ended before are removed.

        The namespace must be there.
        """
        for pod in self.of(place):
            if is_over(pod):
                self.clear(place, pod)
        limits = self._stand_walls(place)
        files = self._files()
        if files:
            self._cluster.apply(manifests.secret(place, files))
        try:
            self._cluster.create(manifests.pod(self._config, self._backup, place, task, limits))
        except Refusal as refusal:
            # A quota may say no before the name does: it counts what is asked for before it is known to be there.
            if self._cluster.get(_POD, place.namespace, task.name) is not None:
                return Copying(CopyState.RUNNING)
            if faults.is_about_quota(refusal, place.name):
                raise faults.catching_up(str(refusal)) from refusal
            raise
        log.info("job_started", workspace=place.workspace, job=task.name)
        return Copying(CopyState.RUNNING)

    def clear(self, place: Place, pod: Object) -> None:
        """Remove what is left of a job, or end one that is under way, and take its credentials away."""
        meta = pod["metadata"]
        if "deletionTimestamp" not in meta:
            self._cluster.delete(_POD, place.namespace, meta["name"], uid=meta["uid"], grace=1)
        self.forget_secret(place)

    def forget_secret(self, place: Place) -> None:
        """Take the registry's credentials out of the workspace's place."""
        self._cluster.delete_all(
            "Secret", place.namespace, labels=f"{INSTANCE}={place.instance},{JOB}={place.workspace}"
        )

    def of(self, place: Place) -> list[Object]:
        """The pods of all jobs that are there."""
        chosen = f"{INSTANCE}={place.instance},{JOB}={place.workspace}"
        return list(self._cluster.all(_POD, place.namespace, labelSelector=chosen))

    def _stand_walls(self, place: Place) -> Limits:
        """The limits that a job gets: its own, or the workspace's where those are smaller."""
        limits = Limits(cpu=self._backup.cpu, memory=self._backup.memory)
        for manifest in (*walls.account(place), network.job_policy(self._config, self._backup, place)):
            self._cluster.apply(manifest)
        if self._config.pull_credentials is not None:
            self._cluster.apply(pull_secret(place, text_of(self._config.pull_credentials)))
        if self._config.layout == "shared":
            return limits
        for manifest in network.policies(self._config, place):
            self._cluster.apply(manifest)
        found = self._cluster.get("LimitRange", place.namespace, place.name)
        if found is not None:
            return _at_most(limits, found["spec"]["limits"][0].get("max", {}))
        # The workspace's own walls stand from its next start on.
        self._cluster.apply(walls.quota(self._config, place, limits))
        self._cluster.apply(walls.limit_range(self._config, place, limits))
        return limits

    def _files(self) -> dict[str, str]:
        wanted = {"config.json": self._backup.credentials, "ca.crt": self._backup.authority}
        return {name: text_of(path) for name, path in wanted.items() if path is not None}


def _at_most(limits: Limits, most: Mapping[str, str]) -> Limits:
    cpu, memory = limits.cpu, limits.memory
    if cpu and "cpu" in most:
        cpu = min(cpu, float(parse_quantity(most["cpu"])))  # type: ignore[no-untyped-call]
    if memory and "memory" in most:
        memory = min(memory, int(parse_quantity(most["memory"])))  # type: ignore[no-untyped-call]
    return Limits(cpu=cpu, memory=memory)


def is_over(pod: Object) -> bool:
    """Whether a job has ended, so that nothing of it reads or writes any more."""
    return podstatus.is_over(pod.get("status", {}))


def _outcome(pod: Object) -> Outcome:
    status = pod.get("status", {})
    said = _said(status)
    if "deletionTimestamp" in pod["metadata"]:
        return Outcome(Copying(CopyState.RUNNING, message="An attempt before is still ending."), said, pod)
    if status.get("phase") == "Succeeded" and said.get("state") == "done":
        return Outcome(Copying(CopyState.PRESENT), said, pod)
    if is_over(pod):
        return Outcome(Copying(CopyState.FAILED, failure=_failure(status, said)), said, pod)
    if observing.node_is_lost(pod):
        return Outcome(Copying(CopyState.UNKNOWN), said, pod)
    if code := observing.hindrance(status):
        return Outcome(Copying(CopyState.FAILED, failure=_never(code, status)), said, pod)
    return Outcome(Copying(CopyState.RUNNING, message=_waiting(status)), said, pod)


def _ended(status: Object) -> Object:
    return next((podstatus.state(one, "terminated") for one in podstatus.containers(status)), {})


def _said(status: Object) -> Mapping[str, Any]:
    try:
        document = json.loads(_ended(status).get("message", "") or "{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _failure(status: Object, said: Mapping[str, Any]) -> Failure:
    code, message = str(said.get("code", "")), str(said.get("message", ""))[:_LONGEST_TEXT]
    step = str(said.get("next_step", ""))[:_LONGEST_TEXT]
    if _CODE.fullmatch(code) and message:
        if code in _OWNERS:
            return UserFault(code, message, step)
        return ClusterFault(code, message, step, temporary=said.get("temporary") is True)
    # Too little memory, too much time, or a node that wanted its room back.
    reason = str(status.get("reason") or _ended(status).get("reason") or "no reason given")
    return ClusterFault(
        "job_failed",
        f"The job that copies the workspace's files was ended ({reason}).",
        "Try again; if that does not help, ask the operator to give such jobs more time or memory.",
        log_text=f"{reason}: {status.get('message', '')}"[:_LONGEST_TEXT],
    )


def _never(code: str, status: Object) -> Failure:
    """It cannot be started, however long one waits: its image is missing, say."""
    return ClusterFault(
        f"job_{code}",
        "The job that copies the workspace's files cannot be started in the cluster.",
        "Ask the operator to correct the settings for backups.",
        log_text=_waiting(status),
        temporary=False,
    )


def _waiting(status: Object) -> str:
    """Why it does not run yet, in the cluster's own words."""
    for container in podstatus.containers(status):
        waiting = podstatus.state(container, "waiting")
        if waiting:
            return f"{waiting.get('reason', '')}: {waiting.get('message', '')}".strip(": ")[:_LONGEST_TEXT]
    placed = podstatus.condition(status, "PodScheduled")
    return str(placed.get("message", ""))[:_LONGEST_TEXT] if placed.get("status") == "False" else ""
