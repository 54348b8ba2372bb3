"""Control groups of version 2, on a folder that looks like one; version 1 or 2 for real in `test_local`."""

from __future__ import annotations

from pathlib import Path

from workspaces.runtime.local import cgroups
from workspaces.runtime.port import Limits


def test_limits_are_set_below_the_nearest_group_that_passes_controllers_on(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
    (tmp_path / "cgroup.subtree_control").write_text("memory pids cpu")
    groups = cgroups.create(tmp_path, "slipway-x", "demo", Limits(cpu=1.5, memory=1 << 30, processes=100))
    (folder,) = groups.folders
    assert folder == tmp_path / "slipway-x" / "demo"
    assert groups.limited
    assert (folder / "memory.max").read_text() == str(1 << 30)
    assert (folder / "pids.max").read_text() == "100"
    assert (folder / "cpu.max").read_text() == "150000 100000"
    assert cgroups.find(tmp_path, "slipway-x", "demo").folders == groups.folders
    assert not groups.out_of_memory()
    (folder / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    assert groups.out_of_memory()


def test_a_controller_that_is_not_passed_on_is_a_limit_not_in_force(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
    (tmp_path / "cgroup.subtree_control").write_text("pids")
    assert not cgroups.create(tmp_path, "slipway-x", "demo", Limits(memory=1 << 30)).limited
    assert cgroups.create(tmp_path, "slipway-x", "demo", Limits(processes=10)).limited
    assert cgroups.create(tmp_path, "slipway-x", "demo", Limits()).limited


def test_without_control_groups_there_are_none(tmp_path: Path) -> None:
    groups = cgroups.create(tmp_path / "none", "slipway-x", "demo", Limits(memory=1))
    assert groups.folders == ()
    assert not groups.limited
    assert groups.members() == set()
    groups.kill()
    groups.remove()
