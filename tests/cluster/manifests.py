"""Manifests for tests: pods that Pod Security's `restricted` lets in, and what belongs to them."""

from __future__ import annotations

from typing import Any

from tests.cluster import images

Json = dict[str, Any]

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def namespace(name: str, **labels: str) -> Json:
    """A namespace under `restricted`."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {**RESTRICTED, **labels}}}


def pod(name: str, space: str, *command: str, volumes: dict[str, Json] | None = None, **spec: Any) -> Json:
    """A compliant pod of the workspace's image, as uid 1000, labelled `app: NAME`.

    Args:
        name: of the pod.
        space: its namespace.
        command: what runs; without one it sleeps.
        volumes: volume sources by the path where the container finds them.
        spec: more of the pod's specification.
    """
    mounts = {f"volume-{index}": path for index, path in enumerate(volumes or {})}
    container: Json = {
        "name": "main",
        "image": images.WORKSPACE,
        "imagePullPolicy": "Never",
        "command": list(command) or ["sleep", "infinity"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "256Mi"}},
        "volumeMounts": [{"name": key, "mountPath": path} for key, path in mounts.items()],
    }
    content: Json = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,  # With 0 the object is gone before the processes are.
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": key, **(volumes or {})[path]} for key, path in mounts.items()],
        **spec,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": space, "labels": {"app": name}},
        "spec": content,
    }


def claim(name: str, space: str) -> Json:
    """A claim of the default class."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": space},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }


def claimed(name: str) -> Json:
    """The volume source of a claim."""
    return {"persistentVolumeClaim": {"claimName": name}}


def policy(name: str, space: str, **spec: Any) -> Json:
    """A NetworkPolicy; for all pods of the namespace if `spec` does not say otherwise."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": space},
        "spec": {"podSelector": {}, **spec},
    }


def is_ready(found: Json) -> bool:
    """Whether a pod, as the API shows it, is Ready."""
    conditions = found.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
