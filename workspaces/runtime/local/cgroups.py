"""Limits by control groups, version 1 or 2, where this process may write them; everything works without.

Sources: the kernel's admin guide, "cgroup-v2" and "cgroup-v1".
"""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

from workspaces.runtime.port import Limits

_CONTROLLERS = ("memory", "pids", "cpu")
_PERIOD = 100_000


@dataclasses.dataclass(frozen=True, slots=True)
class Groups:
    """The control groups of one run.

    Attributes:
        folders: one per controller in version 1, one in all in version 2; empty where none can be written.
        limited: whether every limit asked for is in force.
    """

    folders: tuple[Path, ...] = ()
    limited: bool = True

    def members(self) -> set[int]:
        """The numbers of all processes inside."""
        found: set[int] = set()
        for folder in self.folders:
            with contextlib.suppress(OSError):
                found.update(int(line) for line in (folder / "cgroup.procs").read_text(encoding="ascii").split())
        return found

    def kill(self) -> None:
        """Have the kernel end everything inside at once, where it can (version 2, Linux 5.14)."""
        for folder in self.folders:
            if (folder / "cgroup.kill").exists():
                with contextlib.suppress(OSError):
                    (folder / "cgroup.kill").write_text("1", encoding="ascii")

    def out_of_memory(self) -> bool:
        """Whether the kernel ended a process in here for want of memory."""
        return any(
            _counter(folder / name, "oom_kill") > 0
            for folder in self.folders
            for name in ("memory.events", "memory.oom_control")
        )

    def remove(self) -> None:
        """Delete the groups; they must be empty of processes."""
        for folder in self.folders:
            with contextlib.suppress(FileNotFoundError):
                folder.rmdir()
            with contextlib.suppress(OSError):
                folder.parent.rmdir()  # Ours, and in the way of nobody while other runs are in it.


def create(root: Path, instance: str, name: str, limits: Limits) -> Groups:
    """Make the groups of a run below the control group this process is in.

    Args:
        root: where control groups are mounted, /sys/fs/cgroup.
        instance: keeps two Slipways on one machine apart.
        name: the workspace's.
        limits: to be set.
    """
    folders: list[Path] = []
    missing = _wanted(limits)
    for controllers, parent in _parents(root):
        folder = parent / instance / name
        try:
            _make(parent, folder, controllers)
        except OSError:
            continue
        folders.append(folder)
        missing -= {controller for controller in controllers if _set(folder, controller, limits)}
    return Groups(tuple(folders), limited=not missing)


def find(root: Path, instance: str, name: str) -> Groups:
    """The groups a run has by its name, where no note tells; arguments as for `create`."""
    folders = (parent / instance / name for _, parent in _parents(root))
    return Groups(tuple(folder for folder in folders if folder.is_dir()))


def _wanted(limits: Limits) -> set[str]:
    wanted = {"memory": limits.memory, "pids": limits.processes, "cpu": limits.cpu}
    return {controller for controller, value in wanted.items() if value is not None}


def _parents(root: Path) -> list[tuple[tuple[str, ...], Path]]:
    """(controllers, folder in which groups can be made), from /proc/self/cgroup (cgroups(7))."""
    found: list[tuple[tuple[str, ...], Path]] = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, names, own = line.split(":", 2)
            if not names and (root / "cgroup.controllers").exists():
                found.extend(_delegated(root, own))
            elif names in _CONTROLLERS or names in {"cpu,cpuacct", "cpuacct,cpu"}:
                found.append((("cpu",) if "cpu" in names else (names,), root / names / own.lstrip("/")))
    return found


def _delegated(root: Path, own: str) -> list[tuple[tuple[str, ...], Path]]:
    """Version 2: the nearest group upwards that passes controllers on to its children.

    A group with processes of its own cannot do so, hence the search upwards.
    """
    folder = root / own.lstrip("/")
    while folder.is_relative_to(root):
        with contextlib.suppress(OSError):
            passed_on = (folder / "cgroup.subtree_control").read_text(encoding="ascii").split()
            controllers = tuple(controller for controller in _CONTROLLERS if controller in passed_on)
            if controllers:
                return [(controllers, folder)]
        folder = folder.parent
    return []


def _make(parent: Path, folder: Path, controllers: tuple[str, ...]) -> None:
    folder.parent.mkdir(exist_ok=True)
    if (parent / "cgroup.subtree_control").exists():
        words = " ".join(f"+{controller}" for controller in controllers)
        (folder.parent / "cgroup.subtree_control").write_text(words, encoding="ascii")
    folder.mkdir(exist_ok=True)


def _set(folder: Path, controller: str, limits: Limits) -> bool:
    try:
        for name, value in _values(folder, controller, limits).items():
            (folder / name).write_text(value, encoding="ascii")
    except OSError:
        return False
    return True


def _values(folder: Path, controller: str, limits: Limits) -> dict[str, str]:
    if controller == "memory":
        name = "memory.limit_in_bytes" if (folder / "memory.limit_in_bytes").exists() else "memory.max"
        return {} if limits.memory is None else {name: str(limits.memory)}
    if controller == "pids":
        return {} if limits.processes is None else {"pids.max": str(limits.processes)}
    if limits.cpu is None:
        return {}
    quota = str(int(limits.cpu * _PERIOD))
    if (folder / "cpu.cfs_quota_us").exists():
        return {"cpu.cfs_period_us": str(_PERIOD), "cpu.cfs_quota_us": quota}
    return {"cpu.max": f"{quota} {_PERIOD}"}


def _counter(path: Path, key: str) -> int:
    with contextlib.suppress(OSError):
        for line in path.read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    return 0
