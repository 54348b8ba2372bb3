"""Simulated nodes take many pods at once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster import manifests, programs
from tests.cluster.control_plane import ControlPlane
from tests.cluster.scale import simulated_nodes
from tests.support.waiting import eventually

pytestmark = [pytest.mark.scale, pytest.mark.timeout(900)]
COUNT = 30


def _pod_with_claim(index: int) -> list[dict[str, Any]]:
    name = f"pod-{index}"
    return [
        manifests.claim(name, "many"),
        manifests.pod(name, "many", volumes={"/home/dev": manifests.claimed(name)}),
    ]


def test_pods_with_volumes_become_ready_and_go() -> None:
    programs.ensure("scale")
    with ControlPlane.run() as cluster, simulated_nodes(cluster, 2):
        cluster.apply(
            manifests.namespace("many"), *(found for index in range(COUNT) for found in _pod_with_claim(index))
        )

        def seen(kind: str, query: str) -> list[str]:
            return cluster.kubectl("get", kind, "--namespace", "many", "--output", f"jsonpath={query}").split()

        ready = '{.items[*].status.conditions[?(@.type=="Ready")].status}'
        eventually(lambda: seen("pods", ready) == ["True"] * COUNT, timeout=300, every=0.5, what="all are ready")
        assert seen("pvc", "{.items[*].status.phase}") == ["Bound"] * COUNT
        cluster.kubectl("delete", "pods", "--all", "--namespace", "many", "--timeout=300s")
