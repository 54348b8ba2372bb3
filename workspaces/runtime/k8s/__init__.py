"""The Kubernetes adapter: workspaces as pods, each behind walls of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workspaces.runtime.k8s.adapter import K8sRuntime
from workspaces.runtime.k8s.config import Backup, K8sConfig, Peer, read_options
from workspaces.runtime.port import Runtime

__all__ = ["Backup", "K8sConfig", "K8sRuntime", "Peer", "build"]


def build(options: Mapping[str, Any]) -> Runtime:
    """The adapter from its settings: the fields of `K8sConfig` by name, `image` at least.

    Raises:
        PlatformFault: the settings make no sense; the log text says which.
    """
    return K8sRuntime(read_options(options))
