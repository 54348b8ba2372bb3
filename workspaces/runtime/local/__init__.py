"""The local adapter: workspaces as processes of this machine, in bubblewrap where that works."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workspaces.runtime.local.adapter import LocalRuntime
from workspaces.runtime.local.config import LocalConfig, read_options, run_dir_fits
from workspaces.runtime.port import Runtime

__all__ = ["LocalConfig", "LocalRuntime", "build", "run_dir_fits"]


def build(options: Mapping[str, Any]) -> Runtime:
    """The adapter from its settings: the fields of `LocalConfig` by name, `home` and `run_dir` at least.

    Raises:
        PlatformFault: the settings make no sense; the log text says which.
    """
    return LocalRuntime(read_options(options))
