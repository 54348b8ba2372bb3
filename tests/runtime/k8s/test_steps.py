"""How far a start is, from a pod's status and what the cluster said about it."""

from __future__ import annotations

from typing import Any

import pytest

from workspaces.runtime.k8s.observing import observe
from workspaces.runtime.port import Step

CREATED, BOUND, READY, PULLED, BEGAN = (f"2026-11-24T06:00:0{second}Z" for second in range(5))
SCHEDULED = {"type": "PodScheduled", "status": "True", "lastTransitionTime": BOUND}
SANDBOX = {"type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": READY}
OWN = "spec.containers{workspace}"
NO_ROOM = {
    "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient memory.",
}  # fmt: skip


def pod(*conditions: dict[str, Any], phase: str = "Pending", **state: Any) -> dict[str, Any]:
    status: dict[str, Any] = {"phase": phase, "conditions": list(conditions)}
    if state:
        status["containerStatuses"] = [{"name": "workspace", "state": state}]
    return {"metadata": {"name": "ws-demo", "uid": "u1", "creationTimestamp": CREATED}, "status": status}


def event(
    reason: str, message: str = "", *, uid: str = "u1", kind: str = "Pod", at: str = PULLED, part: str = OWN
) -> dict[str, Any]:
    return {
        "reason": reason,
        "message": message,
        "lastTimestamp": at,
        "involvedObject": {"kind": kind, "uid": uid, "name": "ws-demo", "fieldPath": part},
    }


def steps(found: dict[str, Any], *events: dict[str, Any]) -> dict[str, Step]:
    return {step.type: step for step in observe(found, door_port=1, template="", events=events).steps}


PATHS: dict[str, tuple[dict[str, Any], list[dict[str, Any]], list[str]]] = {
    "accepted": (pod(), [], ["running", "waiting", "waiting", "waiting"]),
    "no room": (pod(NO_ROOM), [], ["running", "waiting", "waiting", "waiting"]),
    "has a node": (pod(SCHEDULED), [], ["done", "running", "waiting", "waiting"]),
    "has its volume": (pod(SCHEDULED, SANDBOX), [], ["done", "done", "running", "waiting"]),
    "pulls": (pod(SCHEDULED, SANDBOX), [event("Pulling")], ["done", "done", "running", "waiting"]),
    "pulls, and its node says nothing else meanwhile": (
        pod(SCHEDULED), [event("Pulling")], ["done", "done", "running", "waiting"],
    ),
    "pulls, and has the IDE's image": (
        pod(SCHEDULED), [event("Pulling"), event("Pulled", part="")], ["done", "done", "running", "waiting"],
    ),
    "has copied the IDE": (
        pod(SCHEDULED, SANDBOX), [event("Pulled", part="spec.initContainers{ide}")],
        ["done", "done", "running", "waiting"],
    ),
    "has its image": (pod(SCHEDULED, SANDBOX), [event("Pulled")], ["done", "done", "done", "running"]),
    "runs": (
        pod(SCHEDULED, SANDBOX, phase="Running", running={"startedAt": BEGAN}), [], ["done", "done", "done", "done"]
    ),
    "runs on a cluster that does not tell of sandboxes": (
        pod(SCHEDULED, phase="Running", running={"startedAt": BEGAN}), [], ["done", "done", "done", "done"]
    ),
    "image missing": (
        pod(SCHEDULED, SANDBOX, waiting={"reason": "ErrImagePull", "message": "x: not found"}), [],
        ["done", "done", "failed", "waiting"],
    ),
    "container refused": (
        pod(SCHEDULED, SANDBOX, waiting={"reason": "CreateContainerConfigError", "message": 'secret "x" not found'}),
        [event("Pulled")], ["done", "done", "done", "failed"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_the_order_of_a_start(path: str) -> None:
    found, events, expected = PATHS[path]
    seen = steps(found, *events)
    assert list(seen) == ["scheduled", "volume", "image", "container"]
    assert [step.status for step in seen.values()] == expected


def test_times_are_the_clusters_own() -> None:
    running = pod(SCHEDULED, SANDBOX, phase="Running", running={"startedAt": BEGAN})
    seen = steps(running, event("Pulling", at=READY), event("Pulled"))
    times = [(step.started_at, step.finished_at) for step in seen.values()]
    assert [[moment and moment.second for moment in pair] for pair in times] == [[0, 1], [1, 2], [2, 3], [3, 4]]


WORDS: dict[str, tuple[dict[str, Any], list[dict[str, Any]], str, str, str]] = {
    "no room": (pod(NO_ROOM), [], "scheduled", "unschedulable", "3 Insufficient memory"),
    "a machine comes": (
        pod(NO_ROOM), [event("TriggeredScaleUp", "pod triggered scale-up: [{g 1->2 (max: 5)}]")],
        "scheduled", "scaling_up", "(max: 5)",
    ),
    "no machine comes": (
        pod(NO_ROOM), [event("NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached")],
        "scheduled", "no_scale_up", "max node group size reached",
    ),
    "storage class": (
        pod(NO_ROOM), [event("ProvisioningFailed", 'storageclass "fast" not found', kind="PersistentVolumeClaim")],
        "volume", "waiting_for_storage", '"fast" not found',
    ),
    "disk elsewhere": (
        pod(SCHEDULED), [event("FailedAttachVolume", "Multi-Attach error for volume")],
        "volume", "waiting_for_storage", "Multi-Attach",
    ),
    "registry slow": (
        pod(SCHEDULED, SANDBOX, waiting={"reason": "ImagePullBackOff", "message": "i/o timeout"}), [],
        "image", "image_retry", "i/o timeout",
    ),
    "image missing": (
        pod(SCHEDULED, SANDBOX, waiting={"reason": "ErrImagePull", "message": "r/i:9: not found"}), [],
        "image", "image_missing", "r/i:9: not found",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WORDS)
def test_the_clusters_own_words_are_told(case: str) -> None:
    found, events, kind, code, words = WORDS[case]
    step = steps(found, *events)[kind]
    assert step.code == code
    assert words in step.message
    assert step.next_step


def test_what_was_said_about_an_earlier_pod_of_the_name_is_not_told() -> None:
    old = event("NotTriggerScaleUp", "max node group size reached", uid="u0")
    assert steps(pod(NO_ROOM), old)["scheduled"].code == "unschedulable"


def test_the_last_word_counts() -> None:
    first, second = event("TriggeredScaleUp", "one", at=CREATED), event("TriggeredScaleUp", "two", at=BEGAN)
    assert "two" in steps(pod(NO_ROOM), second, first)["scheduled"].message


def test_a_long_message_is_cut() -> None:
    said = event("FailedMount", "x" * 100_000)
    assert len(steps(pod(SCHEDULED), said)["volume"].message) <= 600
