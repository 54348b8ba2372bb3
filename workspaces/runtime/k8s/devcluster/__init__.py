"""A dev cluster: a namespace for each workspace, in which its owner's `kubectl` works."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workspaces.runtime.devcluster import DevCluster
from workspaces.runtime.k8s.devcluster.adapter import K8sDevCluster
from workspaces.runtime.k8s.devcluster.config import DevConfig, read_options

__all__ = ["DevConfig", "K8sDevCluster", "build"]


def build(options: Mapping[str, Any]) -> DevCluster:
    """The adapter from its settings: the fields of `DevConfig` by name, `server` at least.

    Raises:
        PlatformFault: the settings make no sense; the log text says which.
    """
    return K8sDevCluster(read_options(options))
