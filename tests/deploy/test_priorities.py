"""On a full node the real scheduler lets the platform's pods wait, unless it was told to make room for them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import manifests
from tests.cluster.access import Cluster
from tests.deploy.helm import LEAST, Helm, kinds, pod_of
from tests.support.waiting import eventually
from workspaces.runtime.k8s import podstatus

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

Json = dict[str, Any]


@pytest.fixture
def full(control_plane: Cluster) -> Iterator[str]:
    """A namespace, and a node of this name with room for one pod that asks for most of a core; nothing runs there."""
    name = f"t{secrets.token_hex(4)}"
    size = {"cpu": "1", "memory": "1Gi", "pods": "10"}
    meta = {"name": name, "labels": {"kubernetes.io/hostname": name}}
    machine = {"apiVersion": "v1", "kind": "Node", "metadata": meta, "status": {"allocatable": size, "capacity": size}}
    control_plane.apply(machine, manifests.namespace(name))
    yield name
    control_plane.kubectl("delete", "node", name, "--wait=false")
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


def _pod(name: str, place: str, priority: str) -> Json:
    there: Json = {"nodeSelector": {"kubernetes.io/hostname": place}, "tolerations": [{"operator": "Exists"}]}
    made = manifests.pod(name, place, priorityClassName=priority, **there)
    made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "800m"}}
    return made


def _status(control_plane: Cluster, name: str, place: str) -> Json:
    return podstatus.condition(control_plane.get("pod", name, place)["status"], "PodScheduled")


def _is_ending(control_plane: Cluster, name: str, place: str) -> bool:
    return "deletionTimestamp" in control_plane.get("pod", name, place)["metadata"]


@pytest.mark.parametrize("preempt", [False, True])
def test_a_workspace_is_ended_for_the_platform_only_where_that_was_asked_for(
    helm: Helm, control_plane: Cluster, full: str, preempt: bool
) -> None:
    workspaces = {**LEAST["workspaces"], "prefix": f"{full}-"}
    values = {**LEAST, "workspaces": workspaces, "priorities": {"preempt": preempt}}
    objects = helm.template(values, namespace=full)
    classes = kinds(objects, "PriorityClass")
    (own,) = {pod["spec"]["priorityClassName"] for one in objects if (pod := pod_of(one)) and one["kind"] != "Pod"}
    (theirs,) = {one["metadata"]["name"] for one in classes} - {own}
    control_plane.apply(*classes)
    try:
        control_plane.apply(_pod("workspace", full, theirs))
        eventually(lambda: _status(control_plane, "workspace", full).get("status") == "True", what="it has its place")
        control_plane.apply(_pod("platform", full, own))
        refused = eventually(lambda: _status(control_plane, "platform", full), what="the scheduler has tried")
        assert (refused["status"], refused["reason"]) == ("False", "Unschedulable")
        # The scheduler says at once that it ends nothing; what it ends, it ends soon after.
        assert ("preemptionPolicy=Never" in refused["message"]) is not preempt
        if preempt:
            eventually(lambda: _is_ending(control_plane, "workspace", full), what="it makes room")
        assert _is_ending(control_plane, "workspace", full) is preempt
    finally:
        control_plane.kubectl("delete", "priorityclass", own, theirs, "--wait=false")
