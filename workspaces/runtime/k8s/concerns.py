"""Which workspace an object of the cluster concerns. Pure."""

from __future__ import annotations

from workspaces.runtime.errors import PlatformFault
from workspaces.runtime.k8s import podstatus
from workspaces.runtime.k8s.client import Object
from workspaces.runtime.k8s.config import K8sConfig
from workspaces.runtime.k8s.names import INSTANCE, JOB, WORKSPACE
from workspaces.runtime.names import checked

# What the object itself says as well, at the same moment: a start has eight such events, and each look costs requests.
_TOLD_TWICE = frozenset(
    {"Scheduled", "Created", "Started", "Killing", "SuccessfulAttachVolume", "ProvisioningSucceeded"}
)
_TOLD_OF = {"Pod", "PersistentVolumeClaim"}


def workspace_of(config: K8sConfig, kind: str, found: Object) -> str | None:
    """The workspace that an object belongs to, a job works for, or an Event is about; None where that is none of ours.

    Events carry no labels, so they are known by the names of what they are about. Another installation that has the
    same prefix is told apart only by whoever knows the workspaces: none of ours has such a name.
    """
    if kind == "Event":
        told = found.get("reason") in _TOLD_TWICE
        return None if told else _of_event(config, found.get("involvedObject") or {})
    labels = found["metadata"].get("labels") or {}
    name = labels.get(WORKSPACE) or labels.get(JOB, "")
    return _valid(name) if labels.get(INSTANCE) == config.instance else None


def is_busy_job(kind: str, found: Object) -> bool:
    """Whether an object is a job that has not ended and is not being ended: it has nothing to say yet."""
    meta = found["metadata"]
    return (
        kind == "Pod"
        and JOB in (meta.get("labels") or {})
        and "deletionTimestamp" not in meta
        and not podstatus.is_over(found.get("status", {}))
    )


def _of_event(config: K8sConfig, about: Object) -> str | None:
    if about.get("kind") not in _TOLD_OF:
        return None
    if config.layout == "own":
        # Whatever it is called: it lies in the workspace's own namespace.
        whole = str(about.get("namespace") or "")
    else:
        whole = str(about.get("name") or "") if about.get("namespace") == config.namespace else ""
    return _valid(whole[len(config.prefix) :]) if whole.startswith(config.prefix) else None


def _valid(name: str) -> str | None:
    try:
        return checked(name)
    except PlatformFault:
        return None
