"""The Kubernetes adapter on a real node, for what is asked of every runtime."""

from __future__ import annotations

import contextlib
import functools
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from tests.cluster import images, network
from tests.cluster.node import Node
from tests.runtime.k8s import backup_image
from tests.runtime.k8s.conftest import patiently
from tests.runtime.rigs import AGENT, Rig
from tests.support.registry import registry
from workspaces.runtime.k8s import Backup, K8sConfig, K8sRuntime, Peer
from workspaces.runtime.port import Presence, Runtime

_PATIENCE = 120
# What a caller may have to repeat, as the port says; looking never is.
_REPEATED = frozenset(
    {
        *("ensure_volume", "ensure_run", "stop", "destroy_run", "destroy_volume", "resize_volume"),
        *("snapshot", "restore", "forget_snapshot", "call_off_snapshot", "free_volume"),
    }
)


class Patient:
    """A runtime whose temporary refusals are waited out, as the operator does by looking again."""

    def __init__(self, runtime: K8sRuntime) -> None:
        self._runtime = runtime

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._runtime, name)
        return functools.partial(_repeat, found) if name in _REPEATED else found


def _repeat(operation: Any, *arguments: Any, **named: Any) -> Any:
    return patiently(lambda: operation(*arguments, **named))


@contextlib.contextmanager
def with_registry(node: Node) -> Iterator[Backup]:
    """What the adapter needs to know to copy volumes into a registry of its own."""
    with registry(address=network.MACHINE) as store:
        to = Peer(networks=(f"{network.MACHINE}/32",))
        yield Backup(f"{store.host}/backups", insecure=True, network=to, image=backup_image.on(node))


@contextlib.contextmanager
def cluster_rig(node: Node, backup: Backup | None = None) -> Iterator[Rig]:
    tag = f"t{secrets.token_hex(4)}"
    config = K8sConfig(
        kubeconfig=Path(node.control_plane.kubeconfig),
        image=images.WORKSPACE,
        command=("/usr/bin/python3", "-u", "-c", AGENT),
        prefix=f"{tag}-",
        instance=tag,
        volume_bytes=2**30,
        backup=backup,
    )

    def build() -> Runtime:
        return cast("Runtime", Patient(K8sRuntime(config)))

    try:
        yield Rig("k8s", build(), Path("/nonexistent"), build, "tcp://", Presence.ABSENT, _PATIENCE)
    finally:
        node.control_plane.kubectl("delete", "namespace", "--selector", f"slipway.dev/instance={tag}", "--wait=false")
