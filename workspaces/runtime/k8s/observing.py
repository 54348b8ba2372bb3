"""What a pod, as the API server describes it, means for its workspace. Pure.

https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from workspaces.runtime.k8s import podstatus
from workspaces.runtime.k8s.names import DIGEST, RUN, TEMPLATE
from workspaces.runtime.k8s.steps import steps_of
from workspaces.runtime.port import Observation, Presence

Object = dict[str, Any]

RESTART_TO_APPLY = "restart_to_apply"
# What the node says when a container cannot be made, and what that means here.
_NEVER = {
    "InvalidImageName": "image_invalid",
    "ErrImageNeverPull": "image_missing",
    "CreateContainerConfigError": "pod_refused",
    "CreateContainerError": "pod_refused",
    "RunContainerError": "not_started",
}
_PULLING = {"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"}
# Words of registries and runtimes for "there is no such image" and "you may not have it".
_NO_IMAGE = ("not found", "manifest unknown", "does not exist", "name unknown")
_NO_ACCESS = ("unauthorized", "authentication required", "denied", "forbidden", "no basic auth")
_LAST_SIGNAL = 64


def observe(pod: Object | None, *, door_port: int, template: str, events: Iterable[Object] = ()) -> Observation:
    """What is seen of a run.

    Args:
        pod: as the API server has it; None when it has none.
        events: about it, for what a start that takes long is waiting for.
        door_port: where the agent's door listens.
        template: digest of the shape that pods are given now.
    """
    if pod is None:
        return Observation(Presence.ABSENT)
    meta, status = pod["metadata"], pod.get("status", {})
    presence, reason = _presence(pod)
    annotations, labels = meta.get("annotations", {}), meta.get("labels", {})
    number = labels.get(RUN, "")
    container = podstatus.workspace(status)
    running = podstatus.state(container, "running") or podstatus.state(container, "terminated")
    return Observation(
        presence,
        run=int(number) if number.isdigit() else None,
        digest=annotations.get(DIGEST),
        started_at=podstatus.time(running.get("startedAt")),
        exit_code=_exit_code(status) if presence is Presence.EXITED else None,
        reason=reason,
        upstream=_upstream(status.get("podIP"), door_port),
        warnings=() if annotations.get(TEMPLATE, template) == template else (RESTART_TO_APPLY,),
        steps=steps_of(pod, events, hindrance=hindrance(status)),
    )


def is_starting(pod: Object) -> bool:
    """Whether events may have something to say: the pod was accepted, and none of its work has begun."""
    return pod.get("status", {}).get("phase", "Pending") == "Pending" and "deletionTimestamp" not in pod["metadata"]


def _presence(pod: Object) -> tuple[Presence, str]:
    meta, status = pod["metadata"], pod.get("status", {})
    if podstatus.is_over(status):
        return Presence.EXITED, _why_ended(status)
    if node_is_lost(pod):
        return Presence.UNKNOWN, "node_lost"
    if "deletionTimestamp" in meta:
        return Presence.RUNNING, "ending"
    if podstatus.state(podstatus.workspace(status), "running"):
        return Presence.RUNNING, ""
    return Presence.RUNNING, hindrance(status) or "starting"


def node_is_lost(pod: Object) -> bool:
    """Whether the node that it runs on is silent: nobody knows whether its processes live."""
    ready = podstatus.condition(pod.get("status", {}), "Ready")
    return ready.get("reason") in {"NodeNotReady", "NodeLost"} or pod.get("status", {}).get("reason") == "NodeLost"


def hindrance(status: Object) -> str:
    """The code of what keeps a pod from running and will not pass by itself; empty when there is nothing such."""
    for container in podstatus.containers(status):
        waiting = podstatus.state(container, "waiting")
        said, message = waiting.get("reason", ""), str(waiting.get("message", "")).lower()
        if said in _NEVER:
            return _NEVER[said]
        if said in _PULLING and any(words in message for words in _NO_ACCESS):
            return "image_refused"
        if said in _PULLING and any(words in message for words in _NO_IMAGE):
            return "image_missing"
    return ""


def _why_ended(status: Object) -> str:
    if status.get("reason") == "Evicted":
        return "evicted"
    ended = podstatus.state(podstatus.workspace(status), "terminated")
    return {"OOMKilled": "oom_killed", "StartError": "not_started", "ContainerCannotRun": "not_started"}.get(
        ended.get("reason", ""), _disruption(status)
    )


def _disruption(status: Object) -> str:
    """https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions"""
    return "evicted" if podstatus.condition(status, "DisruptionTarget").get("status") == "True" else ""


def _exit_code(status: Object) -> int | None:
    """0 to 255, or negative for a signal: runtimes report those as 128 and the signal's number."""
    ended = podstatus.state(podstatus.workspace(status), "terminated")
    if not ended:
        return None
    code = int(ended.get("exitCode", 0))
    return 128 - code if 128 < code <= 128 + _LAST_SIGNAL else code


def _upstream(address: str | None, port: int) -> dict[str, str]:
    if not address:
        return {}
    host = f"[{address}]" if ipaddress.ip_address(address).version == 6 else address
    door = f"tcp://{host}:{port}"
    return {"ide": door, "ports": door}
