"""A namespace prefix and an instance of its own for each test, in one cluster for all."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from kernel.errors import Failure
from tests.cluster.access import Cluster
from tests.support.waiting import eventually
from workspaces.runtime.k8s import K8sConfig, K8sRuntime, Peer
from workspaces.runtime.port import Limits, Observation, RunSpec

T = TypeVar("T")
LIMITS = Limits(cpu=1, memory=2**30)


def patiently(act: Callable[[], T]) -> T:
    """Do what may have to be repeated for a moment, as the operator does."""

    def attempt() -> list[T]:
        try:
            return [act()]
        except Failure as failure:
            if not failure.temporary:
                raise
            return []

    return eventually(attempt, timeout=60, every=0.2)[0]


@dataclasses.dataclass
class Stage:
    """The adapter in a real cluster, and what a node would do there."""

    cluster: Cluster
    values: dict[str, Any]

    def runtime(self, **changes: Any) -> K8sRuntime:
        """An adapter as another process would build it."""
        return K8sRuntime(K8sConfig(**{**self.values, **changes}))

    @property
    def prefix(self) -> str:
        return str(self.values["prefix"])

    def spec(self, run: int = 1, name: str = "demo", **agent: Any) -> RunSpec:
        return RunSpec(name, run, agent, {"run_token": "s3cret"}, LIMITS)

    def start(self, runtime: K8sRuntime | None = None, run: int = 1, name: str = "demo", **changes: Any) -> Observation:
        chosen = runtime or self.runtime(**changes)
        patiently(lambda: chosen.ensure_volume(name))
        return patiently(lambda: chosen.ensure_run(self.spec(run, name)))

    def get(self, kind: str, suffix: str = "") -> dict[str, Any]:
        return self.cluster.get(kind, f"{self.prefix}demo{suffix}", f"{self.prefix}demo")

    def bind(self, node: str = "nobody", *, suffix: str = "") -> None:
        """Put the pod, or a job, on a node that nobody runs: from now on only a kubelet may say that it ended."""
        space, name = f"{self.prefix}demo", f"{self.prefix}demo{suffix}"
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
        path = f"/api/v1/namespaces/{space}/pods/{name}/binding"
        self.cluster.kubectl("create", "--raw", path, "-f", "-", text=json.dumps(binding))

    def say(self, **status: Any) -> None:
        """Report a pod's status, as its kubelet would."""
        self.cluster.kubectl(
            *("patch", "pod", f"{self.prefix}demo", "--namespace", f"{self.prefix}demo", "--subresource", "status"),
            *("--type", "merge", "--patch", json.dumps({"status": status})),
        )

    def forget_pod(self) -> None:
        """What a kubelet does once a pod that was deleted has ended."""
        name = f"{self.prefix}demo"
        self.cluster.kubectl("delete", "pod", name, "--namespace", name, "--grace-period", "0", "--force")


@pytest.fixture
def stage(control_plane: Cluster) -> Iterator[Stage]:
    tag = f"t{secrets.token_hex(4)}"
    values = {
        "kubeconfig": Path(control_plane.kubeconfig),
        "image": "local.test/workspace:1",
        "prefix": f"{tag}-",
        "instance": tag,
        "gateway": Peer({"kubernetes.io/metadata.name": "slipway"}, {"app": "gateway"}),
        "platform": Peer(networks=("10.9.9.9/32",)),
        "platform_url": "http://10.9.9.9:8001",
    }
    yield Stage(control_plane, values)
    control_plane.kubectl("delete", "namespace", "--selector", f"slipway.dev/instance={tag}", "--wait=false")
