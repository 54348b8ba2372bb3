"""What keeps a workspace to itself: namespace, account, role, quota, limits, and the storage that outlives its runs.

Pod Security Standards: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from workspaces.runtime.k8s.config import K8sConfig
from workspaces.runtime.k8s.manifests.parts import Manifest, cores, manifest, size
from workspaces.runtime.k8s.names import Place
from workspaces.runtime.port import Limits

_RBAC = "rbac.authorization.k8s.io"
_STANDARD = "restricted"
# Beside the workspace's own pod there may be one at work on its volume.
_PODS = 2


def namespace(place: Place) -> Manifest:
    """The workspace's own namespace, in which the cluster enforces the strictest standard."""
    standard = {
        f"pod-security.kubernetes.io/{mode}{suffix}": value
        for mode in ("enforce", "warn", "audit")
        for suffix, value in (("", _STANDARD), ("-version", "latest"))
    }
    meta = {"name": place.namespace, "labels": {**place.labels, **standard}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}


def account(place: Place) -> list[Manifest]:
    """Who the workspace is in the cluster. It may look at its own pod and at nothing else."""
    subject = {"kind": "ServiceAccount", "name": place.name, "namespace": place.namespace}
    rule = {"apiGroups": [""], "resources": ["pods"], "resourceNames": [place.name], "verbs": ["get"]}
    role = {"apiGroup": _RBAC, "kind": "Role", "name": place.name}
    return [
        manifest("ServiceAccount", "v1", place, automountServiceAccountToken=False),
        manifest("Role", f"{_RBAC}/v1", place, rules=[rule]),
        manifest("RoleBinding", f"{_RBAC}/v1", place, roleRef=role, subjects=[subject]),
    ]


def quota(config: K8sConfig, place: Place, limits: Limits) -> Manifest:
    """The most that the workspace's namespace may use, whatever is started in it."""
    hard = {
        "pods": str(_PODS),
        "persistentvolumeclaims": "1",
        "requests.storage": size(config.volume_bytes),
        "limits.ephemeral-storage": size(config.scratch_bytes * _PODS),
        "services": "0",
        "services.loadbalancers": "0",
        "services.nodeports": "0",
    }
    if limits.cpu:
        hard["limits.cpu"] = cores(limits.cpu * _PODS)
    if limits.memory:
        hard["limits.memory"] = size(limits.memory * _PODS)
    return manifest("ResourceQuota", "v1", place, spec={"hard": hard})


def limit_range(config: K8sConfig, place: Place, limits: Limits) -> Manifest:
    """What a container gets that says nothing, and the most that one may ask for."""
    most = {"ephemeral-storage": size(config.scratch_bytes)}
    if limits.cpu:
        most["cpu"] = cores(limits.cpu)
    if limits.memory:
        most["memory"] = size(limits.memory)
    item = {"type": "Container", "default": most, "defaultRequest": requests(config, limits), "max": most}
    return manifest("LimitRange", "v1", place, spec={"limits": [item]})


def requests(config: K8sConfig, limits: Limits) -> dict[str, str]:
    """What the scheduler reserves for a workspace: a share of what it may use."""
    found = {}
    if limits.cpu:
        found["cpu"] = cores(limits.cpu * config.request_share)
    if limits.memory:
        found["memory"] = size(int(limits.memory * config.request_share))
    return found


def claim(config: K8sConfig, place: Place) -> Manifest:
    """The storage. It belongs to nothing whose deletion would delete it by surprise."""
    spec: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size(config.volume_bytes)}},
    }
    if config.storage_class:
        spec["storageClassName"] = config.storage_class
    return manifest("PersistentVolumeClaim", "v1", place, spec=spec)
