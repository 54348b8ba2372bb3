"""Which workspace an object of the cluster is about, by tables."""

from __future__ import annotations

from typing import Any

import pytest

from workspaces.runtime.k8s import K8sConfig
from workspaces.runtime.k8s.concerns import is_busy_job, workspace_of
from workspaces.runtime.k8s.operations import lease_namespace, selections

OWN = K8sConfig(image="i", instance="mine", prefix="ws-")
SHARED = K8sConfig(image="i", instance="mine", prefix="ws-", layout="shared", namespace="all")
OURS = {"slipway.dev/instance": "mine", "slipway.dev/workspace": "demo"}


def _event(kind: str, namespace: str, name: str) -> dict[str, Any]:
    about = {"kind": kind, "namespace": namespace, "name": name}
    return {"metadata": {"name": f"{name}.1", "namespace": namespace}, "involvedObject": about}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (OURS, "demo"),
        ({**OURS, "slipway.dev/instance": "theirs"}, None),
        ({**OURS, "slipway.dev/workspace": "../demo"}, None),
        ({"slipway.dev/workspace": "demo"}, None),
        ({"slipway.dev/instance": "mine"}, None),
        ({"slipway.dev/instance": "mine", "slipway.dev/job": "demo"}, "demo"),
        ({"slipway.dev/job": "demo"}, None),
        ({}, None),
        (None, None),
    ],
)
@pytest.mark.parametrize("kind", ["Pod", "PersistentVolumeClaim", "Namespace"])
def test_objects_are_known_by_their_labels(kind: str, labels: dict[str, str] | None, expected: str | None) -> None:
    assert workspace_of(OWN, kind, {"metadata": {"name": "x", "labels": labels}}) == expected


@pytest.mark.parametrize(
    ("config", "event", "expected"),
    [
        (OWN, _event("Pod", "ws-demo", "ws-demo"), "demo"),
        (OWN, _event("PersistentVolumeClaim", "ws-demo", "ws-demo"), "demo"),
        (OWN, _event("Pod", "ws-demo", "helper"), "demo"),
        (OWN, _event("ReplicaSet", "ws-demo", "ws-demo"), None),
        (OWN, _event("Pod", "kube-system", "ws-demo"), None),
        (OWN, _event("Pod", "ws-", "ws-"), None),
        (OWN, _event("Pod", "", ""), None),
        (SHARED, _event("Pod", "all", "ws-demo"), "demo"),
        (SHARED, _event("Pod", "all", "database-0"), None),
        (SHARED, _event("Pod", "ws-demo", "ws-demo"), None),
        (OWN, {**_event("Pod", "ws-demo", "ws-demo"), "reason": "FailedScheduling"}, "demo"),
        (OWN, {**_event("Pod", "ws-demo", "ws-demo"), "reason": "Scheduled"}, None),
        (OWN, {"metadata": {"name": "x"}}, None),
        (OWN, {"metadata": {"name": "x"}, "involvedObject": {"kind": "Pod", "name": None}}, None),
    ],
)
def test_events_are_known_by_what_they_are_about(
    config: K8sConfig, event: dict[str, Any], expected: str | None
) -> None:
    assert workspace_of(config, "Event", event) == expected


@pytest.mark.parametrize(
    ("labels", "phase", "going", "expected"),
    [
        ({"slipway.dev/job": "demo"}, "Pending", {}, True),
        ({"slipway.dev/job": "demo"}, "Running", {}, True),
        ({"slipway.dev/job": "demo"}, "Running", {"deletionTimestamp": "2026-11-24T12:00:00Z"}, False),
        ({"slipway.dev/job": "demo"}, "Succeeded", {}, False),
        ({"slipway.dev/job": "demo"}, "Failed", {}, False),
        (OURS, "Running", {}, False),
        (None, "Running", {}, False),
    ],
)
def test_a_job_has_nothing_to_say_before_its_end(
    labels: dict[str, str] | None, phase: str, going: dict[str, str], expected: bool
) -> None:
    found = {"metadata": {"name": "x", "labels": labels, **going}, "status": {"phase": phase}}
    assert is_busy_job("Pod", found) is expected
    assert not is_busy_job("PersistentVolumeClaim", found)


def test_a_shared_namespace_is_all_that_is_looked_at() -> None:
    assert {selection.kind for selection in selections(OWN)} == {"Pod", "PersistentVolumeClaim", "Event", "Namespace"}
    assert {selection.namespace for selection in selections(OWN)} == {""}
    assert {selection.kind for selection in selections(SHARED)} == {"Pod", "PersistentVolumeClaim", "Event"}
    assert {selection.namespace for selection in selections(SHARED)} == {"all"}
    assert all(selection.labels for selection in selections(OWN) if selection.kind != "Event")


@pytest.mark.parametrize("config", [OWN, SHARED])
def test_jobs_are_looked_at_as_well_as_runs(config: K8sConfig) -> None:
    (pods,) = (selection for selection in selections(config) if selection.kind == "Pod")
    # A selector can ask for one label or for both, not for one of two.
    assert pods.labels == "slipway.dev/instance=mine"


def test_where_the_lease_is() -> None:
    assert lease_namespace(K8sConfig(image="i", lease_namespace="platform")) == "platform"
    assert lease_namespace(SHARED) == "all"
    assert lease_namespace(OWN) == "default"
