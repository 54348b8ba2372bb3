"""How the IDE's image gets into pods, as found out from real API servers with image volumes and without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cluster.access import Cluster
from tests.cluster.control_plane import ControlPlane
from tests.runtime.k8s.conftest import Stage, patiently
from workspaces.runtime.errors import ClusterFault
from workspaces.runtime.k8s import delivery
from workspaces.runtime.k8s.client import Cluster as Client
from workspaces.runtime.k8s.client import Object, Refusal, Timeouts
from workspaces.runtime.k8s.delivery import Detector, can_mount

IDE: dict[str, Any] = {"ide_image": "ide:1"}


@pytest.mark.parametrize(
    ("runtimes", "answer"),
    [
        (["containerd://2.2.1"], True),
        (["containerd://v2.1.0", "cri-o://1.31.0"], True),
        (["containerd://2.1.0-rc.1"], True),
        (["containerd://2.0.5"], False),
        (["containerd://1.7.27"], False),
        (["cri-o://1.30.4"], False),
        (["containerd://2.2.1", "containerd://1.7.27"], False),
        (["docker://27.0.0"], False),
        (["containerd://unknown"], False),
        ([""], False),
        ([], False),
    ],
)
def test_what_a_container_runtime_can_do(runtimes: list[str], answer: bool) -> None:
    assert can_mount(runtimes) is answer


@contextmanager
def node_with(cluster: Cluster, runtime: str) -> Iterator[None]:
    """A node that reports this container runtime, and takes no pods."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "reporting"}, "spec": {"unschedulable": True}}
    cluster.apply(node)
    status = {"status": {"nodeInfo": {"containerRuntimeVersion": runtime}}}
    try:
        cluster.kubectl(
            *("patch", "node", "reporting", "--subresource", "status", "--type", "merge"),
            *("--patch", json.dumps(status)),
        )
        yield
    finally:
        cluster.kubectl("delete", "node", "reporting")


def delivered(stage: Stage, name: str = "demo") -> str:
    """How a pod gets the image."""
    spec = stage.cluster.get("pod", f"{stage.prefix}{name}", f"{stage.prefix}{name}")["spec"]
    if any("image" in volume for volume in spec["volumes"]):
        return "mounted"
    return "copied" if "initContainers" in spec else "not at all"


@pytest.mark.cluster
@pytest.mark.parametrize(("runtime", "way"), [("containerd://2.2.1", "mounted"), ("containerd://1.7.27", "copied")])
def test_a_cluster_that_has_image_volumes(stage: Stage, runtime: str, way: str) -> None:
    with node_with(stage.cluster, runtime):
        stage.start(**IDE)
    assert delivered(stage) == way


@pytest.mark.cluster
def test_without_nodes_to_look_at_the_image_is_copied(stage: Stage) -> None:
    stage.start(**IDE)
    assert delivered(stage) == "copied"


@pytest.mark.cluster
def test_users_of_their_own_keep_the_image_from_being_mounted(stage: Stage) -> None:
    with node_with(stage.cluster, "containerd://2.2.1"):
        stage.start(**IDE, host_users=False)
    assert delivered(stage) == "copied"


@pytest.mark.cluster
def test_who_may_not_see_nodes_gets_a_copy(stage: Stage) -> None:
    """Rights in one namespace only are enough for everything else."""
    name = f"{stage.prefix}demo"
    cluster = stage.cluster
    assert isinstance(cluster, ControlPlane)
    stage.start(**IDE, delivery="init")
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "narrow", "namespace": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "narrow"}],
    }
    cluster.apply(binding)
    client = Client(cluster.kubeconfig_for("narrow"), Timeouts(3, 10))
    with node_with(cluster, "containerd://2.2.1"):
        assert patiently(lambda: Detector(client).way(lambda: trial(name))) == "init"
        administrator = Client(cluster.kubeconfig, Timeouts(3, 10))
        assert Detector(administrator).way(lambda: trial(name)) == "image_volume"


def trial(namespace: str) -> Object:
    """A pod with an image volume that the walls of a workspace let through."""
    confined = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    resources = {"cpu": "10m", "memory": "1Mi", "ephemeral-storage": "1Mi"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "trial", "namespace": namespace},
        "spec": {
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {"name": "c", "image": "c:1", "securityContext": confined, "resources": {"limits": resources}}
            ],
            "volumes": [{"name": "programs", "image": {"reference": "ide:1"}}],
        },
    }


@pytest.fixture(scope="module")
def older() -> Iterator[ControlPlane]:
    """A cluster whose API server has image volumes switched off."""
    with ControlPlane.run("ImageVolume=false") as started:
        yield started


@pytest.mark.cluster
def test_a_cluster_that_has_no_image_volumes(stage: Stage, older: ControlPlane) -> None:
    stage.cluster, stage.values["kubeconfig"] = older, older.kubeconfig
    with node_with(older, "containerd://2.2.1"):
        stage.start(**IDE)
    assert delivered(stage) == "copied"


@pytest.mark.cluster
def test_an_answer_holds_for_a_while(stage: Stage) -> None:
    name, now = f"{stage.prefix}demo", 0.0
    stage.start(**IDE, delivery="init")
    detector = Detector(Client(stage.cluster.kubeconfig, Timeouts(3, 10)), lambda: now)
    assert patiently(lambda: detector.way(lambda: trial(name))) == "init"
    with node_with(stage.cluster, "containerd://2.2.1"):
        now = delivery.KEPT_SECONDS - 1
        assert detector.way(lambda: trial(name)) == "init"
        now = delivery.KEPT_SECONDS
        assert detector.way(lambda: trial(name)) == "image_volume"


@pytest.mark.cluster
def test_no_answer_is_not_remembered(stage: Stage) -> None:
    """Neither an API server that is away nor one that refuses for another reason says what the cluster can do."""
    name, cluster = f"{stage.prefix}demo", stage.cluster
    assert isinstance(cluster, ControlPlane)
    stage.start(**IDE, delivery="init")
    away = cluster.kubeconfig_for("narrow", server="https://127.0.0.1:1")
    with pytest.raises(ClusterFault):
        Detector(Client(away, Timeouts(1, 1))).way(lambda: trial(name))
    with node_with(cluster, "containerd://2.2.1"):
        here = Detector(Client(cluster.kubeconfig, Timeouts(3, 10)))
        with pytest.raises(Refusal):
            here.way(lambda: trial("nowhere"))
        assert patiently(lambda: here.way(lambda: trial(name))) == "image_volume"
