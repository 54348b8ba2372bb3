"""A dev cluster of each test's own: another prefix and instance, in one cluster for all."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.access import Cluster, KubectlError
from tests.runtime.k8s.conftest import patiently
from tests.support import queue
from workspaces.runtime.k8s.devcluster import K8sDevCluster, build
from workspaces.services import devclusters

__all__ = ["patiently"]


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


@contextlib.contextmanager
def connected_to(cluster: Cluster, folder: Path) -> Iterator[DevStage]:
    """A stage in this cluster, whose namespaces go with it."""
    tag = f"d{secrets.token_hex(4)}"
    view = ("config", "view", "--raw", "--minify", "--flatten", "--output", "json")
    server = json.loads(cluster.kubectl(*view))["clusters"][0]["cluster"]
    authority = folder / "ca.pem"
    authority.write_bytes(base64.b64decode(server["certificate-authority-data"]))
    options = {
        "server": server["server"],
        "certificate_authority": str(authority),
        "kubeconfig": str(cluster.kubeconfig),
        "instance": tag,
        "prefix": f"{tag}-",
    }
    yield DevStage(cluster, options, folder)
    cluster.kubectl("delete", "namespace", "--selector", f"slipway.dev/dev-instance={tag}", "--wait=false")


@pytest.fixture
def dev(control_plane: Cluster, tmp_path: Path) -> Iterator[DevStage]:
    with connected_to(control_plane, tmp_path) as stage:
        yield stage


@pytest.fixture
def connected(dev: DevStage, settings: Any) -> Iterator[DevStage]:
    """The platform's settings name the dev cluster."""
    settings.DEV_CLUSTER = {**settings.DEV_CLUSTER, "options": dev.options}
    devclusters.dev_cluster.cache_clear()
    yield dev
    devclusters.dev_cluster.cache_clear()


def asked_for() -> list[str]:
    """The workspaces of which a worker is asked to settle the access; they are taken from the queue."""
    found = queue.asked(devclusters.SETTLE)
    queue.empty()
    return found
