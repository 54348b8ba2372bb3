"""Simulated nodes, by kwok: their pods become Ready at once and run nothing, their claims are bound to no storage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster.children import Child
from tests.cluster.control_plane import ControlPlane
from tests.cluster.programs import path
from tests.support.waiting import eventually

LABEL = "slipway.test/simulated"
STORAGE_CLASS: dict[str, Any] = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "kwok-volume", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": "kwok.x-k8s.io/volume",
    "volumeBindingMode": "Immediate",
    "reclaimPolicy": "Delete",
}


def simulated_node(index: int, *, pods: int) -> dict[str, Any]:
    """A node as large as a big server."""
    name = f"simulated-{index}"
    size = {"cpu": "64", "memory": "512Gi", "ephemeral-storage": "4Ti", "pods": str(pods)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {LABEL: "true", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
        },
        "status": {"allocatable": size, "capacity": size},
    }


@contextmanager
def simulated_nodes(control_plane: ControlPlane, count: int, *, pods: int = 110) -> Iterator[None]:
    """This many Ready nodes with room for so many pods each, as long as the block lasts; other nodes are left alone."""
    command = [str(path("kwok")), f"--config={path('kwok.yaml')}", f"--kubeconfig={control_plane.kubeconfig}"]
    command += [f"--manage-nodes-with-label-selector={LABEL}=true", "--cidr=10.250.0.0/16"]
    kwok = Child("kwok", command, control_plane.folder)
    control_plane.apply(STORAGE_CLASS, *(simulated_node(index, pods=pods) for index in range(count)))
    try:
        kwok.start()
        kwok.until(lambda: _ready(control_plane) == count, what=f"{count} simulated nodes are ready")
        yield
    finally:
        control_plane.kubectl("delete", "nodes", "--selector", LABEL, "--wait=false")
        eventually(lambda: _ready(control_plane) == 0, what="the simulated nodes are gone")
        kwok.stop()


def _ready(control_plane: ControlPlane) -> int:
    status = 'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}'
    return control_plane.kubectl("get", "nodes", "--selector", LABEL, "--output", status).split().count("True")
