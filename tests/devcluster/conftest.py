"""A dev cluster of each test's own: another prefix and instance, in one cluster for all."""

from __future__ import annotations

import base64
import dataclasses
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from kernel import redis
from kernel.errors import Failure
from tests.cluster.access import Cluster, KubectlError
from tests.support.waiting import eventually
from workspaces.runtime.k8s.devcluster import K8sDevCluster, build
from workspaces.services import devclusters

T = TypeVar("T")


def patiently(act: Callable[[], T]) -> T:
    """Do what may have to be repeated for a moment."""

    def attempt() -> list[T]:
        try:
            return [act()]
        except Failure as failure:
            if not failure.temporary:
                raise
            return []

    return eventually(attempt, timeout=60, every=0.2)[0]


@dataclasses.dataclass
class DevStage:
    """The adapter in a real cluster, and developers with real tokens."""

    cluster: Cluster
    options: dict[str, Any]
    folder: Path

    def adapter(self, **changes: Any) -> K8sDevCluster:
        """An adapter as another process would build it."""
        made = build({**self.options, **changes})
        assert isinstance(made, K8sDevCluster)
        return made

    def namespace(self, name: str = "demo") -> str:
        return f"{self.options['prefix']}{name}"

    def developer(self, token: str, name: str = "demo") -> Path:
        """A kubeconfig with this token and nothing else, in the namespace."""
        user = {"token": token}
        context = {"cluster": "c", "user": "u", "namespace": self.namespace(name)}
        authority = base64.b64encode(Path(self.options["certificate_authority"]).read_bytes()).decode()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "c", "cluster": {"server": self.options["server"], "certificate-authority-data": authority}}
            ],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "c", "context": context}],
            "current-context": "c",
        }
        path = self.folder / f"{secrets.token_hex(6)}.kubeconfig"
        path.write_text(json.dumps(config))
        return path

    def kubectl(self, token: str, *arguments: str, text: str | None = None) -> str:
        """What kubectl says to whoever has this token and nothing else."""
        return self.cluster.kubectl(*arguments, text=text, kubeconfig=self.developer(token))

    def refusal(self, token: str, *arguments: str, text: str | None = None) -> str:
        """The reason for which kubectl refuses; fails where it does not."""
        with pytest.raises(KubectlError) as caught:
            self.kubectl(token, *arguments, text=text)
        return caught.value.reason

    def names(self, kind: str, name: str = "demo") -> list[str]:
        """What there is of a kind in a namespace, as its administrator sees it."""
        found = self.cluster.kubectl("get", kind, "--namespace", self.namespace(name), "--output", "name")
        return [line.partition("/")[2] for line in found.splitlines()]


@pytest.fixture
def dev(control_plane: Cluster, tmp_path: Path) -> Iterator[DevStage]:
    tag = f"d{secrets.token_hex(4)}"
    view = ("config", "view", "--raw", "--minify", "--flatten", "--output", "json")
    server = json.loads(control_plane.kubectl(*view))["clusters"][0]["cluster"]
    authority = tmp_path / "ca.pem"
    authority.write_bytes(base64.b64decode(server["certificate-authority-data"]))
    options = {
        "server": server["server"],
        "certificate_authority": str(authority),
        "kubeconfig": str(control_plane.kubeconfig),
        "instance": tag,
        "prefix": f"{tag}-",
    }
    yield DevStage(control_plane, options, tmp_path)
    control_plane.kubectl("delete", "namespace", "--selector", f"slipway.dev/dev-instance={tag}", "--wait=false")


@pytest.fixture
def connected(dev: DevStage, settings: Any) -> Iterator[DevStage]:
    """The platform's settings name the dev cluster."""
    settings.DEV_CLUSTER = {**settings.DEV_CLUSTER, "options": dev.options}
    devclusters.dev_cluster.cache_clear()
    yield dev
    devclusters.dev_cluster.cache_clear()


def asked_for() -> list[str]:
    """The jobs that wait for a worker, by name, oldest first; they are taken from the queue."""
    found = []
    while message := redis.client().rpop("control"):
        assert isinstance(message, bytes | str)
        found.append(str(json.loads(message)["headers"]["task"]))
    return found
