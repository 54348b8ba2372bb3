"""The pod of one run, and what it is handed.

It has no controller: the operator is one, and what ends by itself must be seen before it is replaced.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from workspaces.runtime.k8s.config import Delivery, K8sConfig
from workspaces.runtime.k8s.manifests.parts import Manifest, cores, manifest, size
from workspaces.runtime.k8s.manifests.walls import requests
from workspaces.runtime.k8s.names import CONTAINER, DIGEST, RUN, TEMPLATE, Place
from workspaces.runtime.port import RunSpec

HOME = "/home/dev"
STATE = "/home/.slipway"
HANDED = "/run/agent"
SOCKETS = "/run/slipway"
PROGRAMS = "/opt/slipway"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Removing a node's pods when the node is silent is for the admin to order: its disk may still be in use there.
_STAYS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"


def secret(place: Place, spec: RunSpec) -> Manifest:
    """What the agent reads: the document about this run, and its secrets."""
    documents = {"spec.json": json.dumps(dict(spec.agent)), "secrets.json": json.dumps(dict(spec.secrets))}
    labels = {RUN: str(spec.run)}
    return manifest("Secret", "v1", place, name=place.run_name(spec.run), labels=labels, stringData=documents)


def pull_name(place: Place) -> str:
    """What the registry's credentials are called."""
    return f"{place.name}-pull"


def pull_secret(place: Place, credentials: str) -> Manifest:
    """Credentials for the registry; the cluster uses them, and no container sees them."""
    data = {".dockerconfigjson": credentials}
    return manifest(
        "Secret", "v1", place, name=pull_name(place), type="kubernetes.io/dockerconfigjson", stringData=data
    )


def pod(config: K8sConfig, place: Place, spec: RunSpec, delivery: Delivery) -> Manifest:
    """The pod. Its name is the same for each run, so that there are never two.

    Args:
        delivery: how the IDE image gets into it; "auto" stands for "init" here.
    """
    body = _body(config, place, spec, delivery)
    return manifest(
        "Pod",
        "v1",
        place,
        labels={RUN: str(spec.run)},
        annotations={DIGEST: spec.digest(), TEMPLATE: template_digest(config), _SAFE_TO_EVICT: "false"},
        spec=body,
    )


def template_digest(config: K8sConfig) -> str:
    """Changes when the settings would give the next pod another shape: "restart to apply".

    What is found out about the cluster does not count.
    """
    anybody = Place("w", "w", "w", "w")
    body = _body(config, anybody, RunSpec("w", 0, {}), config.delivery)
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


def _body(config: K8sConfig, place: Place, spec: RunSpec, delivery: Delivery) -> Manifest:
    body: Manifest = {
        "restartPolicy": "Never",
        "serviceAccountName": place.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "hostname": place.workspace,
        "terminationGracePeriodSeconds": config.stop_grace,
        "securityContext": as_user(config),
        "tolerations": [
            *({"key": key, "operator": "Exists", "effect": "NoExecute"} for key in _STAYS),
            *(dict(toleration) for toleration in config.tolerations),
        ],
        "volumes": _volumes(config, place, spec, delivery),
        "containers": [_workspace(config, spec)],
    }
    if config.ide_image and delivery != "image_volume":
        body["initContainers"] = [_copier(config, spec)]
    optional = {
        "hostUsers": config.host_users,
        "priorityClassName": config.priority_class or None,
        "nodeSelector": dict(config.node_selector) or None,
        "imagePullSecrets": [{"name": pull_name(place)}] if config.pull_credentials else None,
    }
    return body | {key: value for key, value in optional.items() if value is not None}


def as_user(config: K8sConfig) -> Manifest:
    """The security context of a pod: the workspace's user, to whom its files belong."""
    return {
        "runAsNonRoot": True,
        "runAsUser": config.user,
        "runAsGroup": config.user,
        "fsGroup": config.user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _workspace(config: K8sConfig, spec: RunSpec) -> Manifest:
    return {
        "name": CONTAINER,
        "image": config.image,
        "command": list(config.command),
        "env": [{"name": name, "value": value} for name, value in _environment(config).items()],
        "ports": [{"name": "door", "containerPort": config.door_port, "protocol": "TCP"}],
        "resources": _resources(config, spec),
        "securityContext": confined(read_only=config.read_only_root),
        "volumeMounts": list(_mounts(config)),
    }


def _copier(config: K8sConfig, spec: RunSpec) -> Manifest:
    """Brings the IDE's image into the pod where the cluster cannot mount it; that image has its own program for it."""
    return {
        "name": "programs",
        "image": config.ide_image,
        "command": [f"{PROGRAMS}/bin/install", "/programs"],
        "resources": _resources(config, spec),
        "securityContext": confined(read_only=True),
        "volumeMounts": [{"name": "programs", "mountPath": "/programs"}],
    }


def confined(*, read_only: bool) -> Manifest:
    """The security context of a container."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": read_only,
    }


def _resources(config: K8sConfig, spec: RunSpec) -> Manifest:
    most = {"ephemeral-storage": size(config.scratch_bytes)}
    if spec.limits.cpu:
        most["cpu"] = cores(spec.limits.cpu)
    if spec.limits.memory:
        most["memory"] = size(spec.limits.memory)
    return {"limits": most, "requests": requests(config, spec.limits)}


def _environment(config: K8sConfig) -> dict[str, str]:
    found = {
        "HOME": HOME,
        "USER": "dev",
        "LOGNAME": "dev",
        "LANG": "C.UTF-8",
        "PATH": _PATH,
        "TMPDIR": "/tmp",  # noqa: S108 - inside, and the workspace's own
        "SLIPWAY_AGENT_SPEC": f"{HANDED}/spec.json",
        "SLIPWAY_AGENT_SECRETS": f"{HANDED}/secrets.json",
        "SLIPWAY_RUN_DIR": SOCKETS,
        "SLIPWAY_STATE_DIR": STATE,
        "SLIPWAY_DOOR": f"[::]:{config.door_port}",
        "SLIPWAY_NODE": f"{PROGRAMS}/bin/node",
        "SLIPWAY_IDE": f"{PROGRAMS}/ide/out/node/entry.js",
        "SLIPWAY_TOOLS": f"{PROGRAMS}/tools",
    }
    if config.platform_url:
        found["SLIPWAY_PLATFORM"] = config.platform_url
    return found


def _volumes(config: K8sConfig, place: Place, spec: RunSpec, delivery: Delivery) -> list[Manifest]:
    found: list[Manifest] = [
        {"name": "home", "persistentVolumeClaim": {"claimName": place.name}},
        {"name": "handed", "secret": {"secretName": place.run_name(spec.run), "defaultMode": 0o440}},
        # Sized, so that the autoscaler knows what would be lost with the node.
        {"name": "scratch", "emptyDir": {"sizeLimit": size(config.scratch_bytes)}},
    ]
    if config.ide_image and delivery == "image_volume":
        found.append({"name": "programs", "image": {"reference": config.ide_image, "pullPolicy": "IfNotPresent"}})
    elif config.ide_image:
        found.append({"name": "programs", "emptyDir": {"sizeLimit": size(config.scratch_bytes)}})
    return found


def _mounts(config: K8sConfig) -> Iterable[Manifest]:
    # Below a folder of the volume, whose root may hold what the storage keeps there ("lost+found").
    yield {"name": "home", "mountPath": HOME, "subPath": "home"}
    yield {"name": "home", "mountPath": STATE, "subPath": "state"}
    yield {"name": "handed", "mountPath": HANDED, "readOnly": True}
    for folder in (SOCKETS, "/tmp", "/var/tmp"):  # noqa: S108 - inside, and the workspace's own
        yield {"name": "scratch", "mountPath": folder, "subPath": folder.strip("/").replace("/", "-")}
    if config.ide_image:
        yield {"name": "programs", "mountPath": PROGRAMS, "readOnly": True}
