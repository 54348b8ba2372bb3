"""What the API server says of a pod, and what that means."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workspaces.runtime.k8s.observing import observe
from workspaces.runtime.port import Presence

STARTED = "2026-11-24T06:00:00Z"


def pod(phase: str, *, meta: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    labels = {"slipway.dev/run": "3"}
    annotations = {"slipway.dev/spec-digest": "d1", "slipway.dev/template-digest": "t1"}
    return {
        "metadata": {"labels": labels, "annotations": annotations, **(meta or {})},
        "status": {"phase": phase, **status},
    }


def container(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "workspace", "state": state}]}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return container(waiting={"reason": reason, "message": message})


def ended(code: int, reason: str = "Error") -> dict[str, Any]:
    return container(terminated={"exitCode": code, "reason": reason, "startedAt": STARTED})


UP: dict[str, Any] = container(running={"startedAt": STARTED})
NOT_FOUND = 'failed to resolve reference "r/i:1": r/i:1: not found'
DENIED = (
    "pull access denied, repository does not exist or may require authorization: authorization failed: unauthorized"
)
NODE_SILENT: dict[str, Any] = {"conditions": [{"type": "Ready", "status": "False", "reason": "NodeNotReady"}]}
DISRUPTED: dict[str, Any] = {
    "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]
}

SEEN: dict[str, tuple[dict[str, Any] | None, Presence, str, int | None]] = {
    "no pod": (None, Presence.ABSENT, "", None),
    "accepted": (pod("Pending"), Presence.RUNNING, "starting", None),
    "being made": (pod("Pending", **waiting("ContainerCreating")), Presence.RUNNING, "starting", None),
    "pulling fails for a while": (
        pod("Pending", **waiting("ImagePullBackOff", "dial tcp: i/o timeout")), Presence.RUNNING, "starting", None
    ),
    "no such image": (pod("Pending", **waiting("ErrImagePull", NOT_FOUND)), Presence.RUNNING, "image_missing", None),
    "image refused": (pod("Pending", **waiting("ErrImagePull", DENIED)), Presence.RUNNING, "image_refused", None),
    "image's name": (pod("Pending", **waiting("InvalidImageName")), Presence.RUNNING, "image_invalid", None),
    "runs": (pod("Running", **UP), Presence.RUNNING, "", None),
    "told to end": (
        pod("Running", meta={"deletionTimestamp": STARTED}, **UP), Presence.RUNNING, "ending", None
    ),
    "ended in order": (pod("Succeeded", **ended(0, "Completed")), Presence.EXITED, "", 0),
    "failed": (pod("Failed", **ended(3)), Presence.EXITED, "", 3),
    "killed": (pod("Failed", **ended(137)), Presence.EXITED, "", -9),
    "out of memory": (pod("Failed", **ended(137, "OOMKilled")), Presence.EXITED, "oom_killed", -9),
    "not started": (pod("Failed", **ended(128, "StartError")), Presence.EXITED, "not_started", 128),
    "evicted by its node": (pod("Failed", reason="Evicted"), Presence.EXITED, "evicted", None),
    "evicted by order": (pod("Failed", **ended(143), **DISRUPTED), Presence.EXITED, "evicted", -15),
    "node silent": (pod("Running", **UP, **NODE_SILENT), Presence.UNKNOWN, "node_lost", None),
    "node silent while told to end": (
        pod("Running", meta={"deletionTimestamp": STARTED}, **UP, **NODE_SILENT), Presence.UNKNOWN, "node_lost", None
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SEEN)
def test_what_is_seen(case: str) -> None:
    found, presence, reason, code = SEEN[case]
    seen = observe(found, door_port=7411, template="t1")
    assert (seen.presence, seen.reason, seen.exit_code) == (presence, reason, code)
    assert (seen.run, seen.digest) == ((None, None) if found is None else (3, "d1"))


@pytest.mark.parametrize(
    ("address", "door"), [("10.1.2.3", "tcp://10.1.2.3:7411"), ("fd00::7", "tcp://[fd00::7]:7411")]
)
def test_the_door_is_where_the_pod_is(address: str, door: str) -> None:
    seen = observe(pod("Running", podIP=address, **UP), door_port=7411, template="t1")
    assert seen.upstream == {"ide": door, "ports": door}
    assert seen.started_at is not None


def test_a_pod_of_older_settings_says_restart_to_apply() -> None:
    assert observe(pod("Running", **UP), door_port=1, template="t1").warnings == ()
    assert observe(pod("Running", **UP), door_port=1, template="t2").warnings == ("restart_to_apply",)


NESTED = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)


@given(phase=st.sampled_from(["Pending", "Running", "Unknown", "", "NewWord"]), extra=NESTED, message=NESTED)
def test_words_of_a_newer_cluster_are_never_taken_for_an_end(phase: str, extra: Any, message: Any) -> None:
    state = {"waiting": {"reason": "SomethingNew", "message": message, "extra": extra}}
    seen = observe(pod(phase, **container(**state)), door_port=1, template="t1")
    assert seen.presence is Presence.RUNNING
    assert seen.reason == "starting"
