"""The pod that carries a copy between a volume and a registry, and what it is handed.

It is no run of the workspace: it has a label of its own, runs the platform's program and not its owner's code, and
talks to the registry alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from workspaces.runtime.k8s.config import Backup, K8sConfig
from workspaces.runtime.k8s.manifests.parts import Manifest, cores, manifest, size
from workspaces.runtime.k8s.manifests.pod import as_user, confined, pull_name
from workspaces.runtime.k8s.names import JOB, Place
from workspaces.runtime.port import Limits

CONTAINER = "backup"
VOLUME = "/volume"
HANDED = "/run/registry"
_RESULT = "/dev/termination-log"
_SCRATCH = 64 * 2**20


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """What one job is to do.

    Attributes:
        name: of its pod: the same task has the same name, so that there are never two.
        arguments: of the program, the words that say what to do.
        claim: "" for none, "read" or "write": how the workspace's volume is mounted.
    """

    name: str
    arguments: tuple[str, ...]
    claim: str


def secret(place: Place, files: Mapping[str, str]) -> Manifest:
    """What a job needs to know about the registry: it lies there only while a job is at work."""
    labels = {JOB: place.workspace}
    return manifest("Secret", "v1", place, name=secret_name(place), labels=labels, stringData=dict(files))


def secret_name(place: Place) -> str:
    """What the credentials for the registry are called."""
    return f"{place.name}-registry"


def pod(config: K8sConfig, backup: Backup, place: Place, task: Task, limits: Limits) -> Manifest:
    """The job. What it has to say is its termination message."""
    body: Manifest = {
        "restartPolicy": "Never",
        "serviceAccountName": place.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "activeDeadlineSeconds": backup.seconds,
        "terminationGracePeriodSeconds": 5,
        "securityContext": as_user(config),
        "tolerations": [dict(toleration) for toleration in config.tolerations],
        "volumes": list(_volumes(backup, place, task)),
        "containers": [_container(config, backup, task, limits)],
    }
    optional = {
        "hostUsers": config.host_users,
        "priorityClassName": config.priority_class or None,
        "nodeSelector": dict(config.node_selector) or None,
        "imagePullSecrets": [{"name": pull_name(place)}] if config.pull_credentials else None,
    }
    body |= {key: value for key, value in optional.items() if value is not None}
    meta = {"name": task.name, "namespace": place.namespace, "labels": place.job_labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": body}


def _container(config: K8sConfig, backup: Backup, task: Task, limits: Limits) -> Manifest:
    most = {"ephemeral-storage": size(min(_SCRATCH, config.scratch_bytes))}
    least = {}
    if limits.cpu:
        most["cpu"] = cores(limits.cpu)
        least["cpu"] = cores(limits.cpu * config.request_share)
    if limits.memory:
        most["memory"] = size(limits.memory)
        least["memory"] = size(int(limits.memory * config.request_share))
    return {
        "name": CONTAINER,
        "image": backup.image or config.ide_image or config.image,
        "command": [*backup.command, *_options(backup), *task.arguments],
        "env": [{"name": "LANG", "value": "C.UTF-8"}, {"name": "PYTHONUTF8", "value": "1"}],
        "terminationMessagePath": _RESULT,
        "resources": {"limits": most, "requests": least},
        "securityContext": confined(read_only=True),
        "volumeMounts": list(_mounts(backup, task)),
    }


def _options(backup: Backup) -> Iterable[str]:
    yield from ("--result", _RESULT)
    if backup.insecure:
        yield "--insecure"
    if backup.credentials:
        yield from ("--credentials", f"{HANDED}/config.json")
    if backup.authority:
        yield from ("--authority", f"{HANDED}/ca.crt")


def _is_handed(backup: Backup) -> bool:
    return bool(backup.credentials or backup.authority)


def _volumes(backup: Backup, place: Place, task: Task) -> Iterable[Manifest]:
    if task.claim:
        yield {"name": "volume", "persistentVolumeClaim": {"claimName": place.name}}
    if _is_handed(backup):
        yield {"name": "registry", "secret": {"secretName": secret_name(place), "defaultMode": 0o440}}


def _mounts(backup: Backup, task: Task) -> Iterable[Manifest]:
    if task.claim:
        yield {"name": "volume", "mountPath": VOLUME, "readOnly": task.claim == "read"}
    if _is_handed(backup):
        yield {"name": "registry", "mountPath": HANDED, "readOnly": True}
