"""The control groups below which a node's pods live, apart from those of everything else on the machine."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.support.waiting import eventually

ROOT = Path("/sys/fs/cgroup")
NAME = "slipway-node"


def _hierarchies() -> list[Path]:
    """One folder with version 2; with version 1 one for each controller, and one beside them."""
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT]
    return [path for path in ROOT.iterdir() if path.is_dir() and not path.is_symlink()]


def create() -> None:
    """Make the groups; the kubelet expects them to be there."""
    for hierarchy in _hierarchies():
        group = hierarchy / NAME
        group.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # Empty in a new group of version 1: no process could join.
            with contextlib.suppress(FileNotFoundError):
                (group / setting).write_text((hierarchy / setting).read_text(encoding="ascii"), encoding="ascii")


def remove() -> None:
    """Remove the groups, and wait for the last of their processes to be gone."""
    eventually(_removed, timeout=20, every=0.05, what="the node's control groups can be removed")


def _removed() -> bool:
    groups = [hierarchy / NAME for hierarchy in _hierarchies() if (hierarchy / NAME).exists()]
    for group in groups:
        below = sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True)
        for folder in [*below, group]:
            with contextlib.suppress(OSError):  # Busy while a process in it is ending; then gone at the next look.
                folder.rmdir()
    return not any(group.exists() for group in groups)
