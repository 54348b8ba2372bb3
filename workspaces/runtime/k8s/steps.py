"""How far a pod's start is, told in the cluster's own words. Pure.

The pod's status says what is so; events say why it takes long. Events are only told, never decided on: they may come
late, twice, or not at all. https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from workspaces.runtime.k8s import podstatus
from workspaces.runtime.k8s.names import CONTAINER
from workspaces.runtime.port import Step

Object = dict[str, Any]

_LONGEST = 600
_OWN_IMAGE = f"spec.containers{{{CONTAINER}}}"
_IMAGE_WORDS = {
    "image_missing": (
        "The workspace's image does not exist.",
        "Ask your administrator to correct the name of the image, or to push it.",
    ),
    "image_refused": (
        "The registry does not let the cluster have the workspace's image.",
        "Ask your administrator to give the cluster access to the registry.",
    ),
    "image_invalid": (
        "The name of the workspace's image is not valid.",
        "Ask your administrator to correct the name of the image.",
    ),
}
_MAKE_ROOM = "It starts as soon as there is room. Stop a workspace that is not needed, or ask your administrator."
_SCALING = {
    "TriggeredScaleUp": (
        "scaling_up",
        "A new machine is being added to the cluster.",
        "It starts as soon as the machine is there.",
    ),
    "NotTriggerScaleUp": ("no_scale_up", "There is no room, and no machine can be added.", _MAKE_ROOM),
}
_STORAGE = ("FailedMount", "FailedAttachVolume", "FailedMapVolume", "ProvisioningFailed", "FailedBinding")


def steps_of(pod: Object, events: Iterable[Object], *, hindrance: str) -> tuple[Step, ...]:
    """The steps of a start, in order.

    Args:
        pod: as the API server has it.
        events: about this pod and its claim, in any order.
        hindrance: code of what keeps the pod from running for good, as `observing` found it.
    """
    latest = _latest(events, pod["metadata"].get("uid", ""))
    status = pod.get("status", {})
    scheduled = _scheduled(pod, status, latest)
    volume = _volume(scheduled, status, latest)
    container = podstatus.workspace(status)
    running = podstatus.state(container, "running") or podstatus.state(container, "terminated")
    image = _image(volume, running, latest, status, hindrance)
    return scheduled, volume, image, _container(image, running, container, hindrance)


def _scheduled(pod: Object, status: Object, latest: Mapping[str, Object]) -> Step:
    condition = podstatus.condition(status, "PodScheduled")
    created = podstatus.time(pod["metadata"].get("creationTimestamp"))
    if condition.get("status") == "True":
        return Step(
            "scheduled", "done", started_at=created, finished_at=podstatus.time(condition.get("lastTransitionTime"))
        )
    if condition.get("reason") != "Unschedulable":
        return Step("scheduled", "running", started_at=created)
    for reason, (code, words, next_step) in _SCALING.items():
        if reason in latest:
            text = f"{words} {_message(latest[reason])}"[:_LONGEST]
            return Step("scheduled", "running", code, text, next_step, started_at=created)
    text = f"The cluster has no room for it yet: {condition.get('message', '')}"[:_LONGEST]
    return Step("scheduled", "running", "unschedulable", text, _MAKE_ROOM, started_at=created)


def _volume(scheduled: Step, status: Object, latest: Mapping[str, Object]) -> Step:
    ready = podstatus.condition(status, "PodReadyToStartContainers")
    # Images come after volumes; while it fetches one, the kubelet says nothing new of the pod.
    fetching = latest.get("Pulling") or latest.get("Pulled")
    if ready.get("status") == "True" or fetching or _any_container_began(status):
        finished = podstatus.time(ready.get("lastTransitionTime")) if ready.get("status") == "True" else None
        return Step("volume", "done", started_at=scheduled.finished_at, finished_at=finished or _event_time(fetching))
    trouble = next((latest[reason] for reason in _STORAGE if reason in latest), None)
    if trouble is not None:
        return Step(
            "volume",
            "running",
            "waiting_for_storage",
            f"The storage is not ready yet: {_message(trouble)}"[:_LONGEST],
            "Slipway waits for it. If it stays so, ask your administrator.",
            started_at=scheduled.finished_at,
        )
    waiting = scheduled.status != "done"
    return Step("volume", "waiting" if waiting else "running", started_at=scheduled.finished_at)


def _image(volume: Step, running: Object, latest: Mapping[str, Object], status: Object, hindrance: str) -> Step:
    begun = _event_time(latest.get("Pulling")) or volume.finished_at
    if hindrance in _IMAGE_WORDS:
        text, next_step = _IMAGE_WORDS[hindrance]
        said = f"{text} {_waiting(status).get('message', '')}"
        return Step("image", "failed", hindrance, said[:_LONGEST], next_step, started_at=begun)
    if running or "Pulled" in latest:
        pulled = latest.get("Pulled")
        message = _message(pulled) if pulled else ""
        return Step("image", "done", message=message, started_at=begun, finished_at=_event_time(pulled))
    if _waiting(status).get("reason") in {"ErrImagePull", "ImagePullBackOff"}:
        said = f"The image could not be fetched yet: {_waiting(status).get('message', '')}"
        return Step("image", "running", "image_retry", said[:_LONGEST], "It is tried again.", started_at=begun)
    if "Pulling" in latest:
        return Step("image", "running", message=_message(latest["Pulling"]), started_at=begun)
    return Step("image", "waiting" if volume.status != "done" else "running", started_at=begun)


def _container(image: Step, running: Object, container: Object, hindrance: str) -> Step:
    if running:
        return Step(
            "container", "done", finished_at=podstatus.time(running.get("startedAt")), started_at=image.finished_at
        )
    if hindrance and hindrance not in _IMAGE_WORDS:
        waiting = podstatus.state(container, "waiting")
        said = f"The workspace's container cannot be started. {waiting.get('message', '')}"
        return Step("container", "failed", hindrance, said[:_LONGEST], "Ask your administrator.")
    return Step("container", "running" if image.status == "done" else "waiting", started_at=image.finished_at)


def _waiting(status: Object) -> Object:
    """Why a container waits, of the first one that says more than that it is being made."""
    for container in podstatus.containers(status):
        waiting = podstatus.state(container, "waiting")
        if waiting.get("reason") not in {None, "ContainerCreating", "PodInitializing"}:
            return waiting
    return {}


def _any_container_began(status: Object) -> bool:
    return any(one.get("state", {}).keys() & {"running", "terminated"} for one in podstatus.containers(status))


def _latest(events: Iterable[Object], uid: str) -> dict[str, Object]:
    """The last event of each reason; those about an earlier pod of the same name are left out."""
    found: dict[str, Object] = {}
    about_us = (
        event
        for event in events
        if event.get("involvedObject", {}).get("kind") != "Pod" or event["involvedObject"].get("uid") == uid
        if not _is_of_another_image(event)
    )
    for event in sorted(about_us, key=lambda one: _when(one) or ""):
        found[str(event.get("reason", ""))] = event
    return found


def _is_of_another_image(event: Object) -> bool:
    """Whether it tells that an image is there which is not the workspace's: the IDE's, mounted or copied from."""
    return event.get("reason") == "Pulled" and event["involvedObject"].get("fieldPath") != _OWN_IMAGE


def _when(event: Object) -> str | None:
    return event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp")


def _event_time(event: Object | None) -> datetime | None:
    return podstatus.time(_when(event)) if event else None


def _message(event: Object) -> str:
    return str(event.get("message", "")).strip()
