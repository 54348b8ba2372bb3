"""A workspace's storage: made once, and never made up again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from django.utils import timezone

from accounts.models import User
from tests.runtime.rigs import local_rig
from tests.services.stage import Stage
from workspaces.models import Condition, Workspace
from workspaces.operator.reconcile import reconcile
from workspaces.runtime.fake import FakeRuntime
from workspaces.runtime.port import Observation, Presence, RunSpec
from workspaces.services import intents
from workspaces.states import State

Factory = Callable[..., Workspace]
pytestmark = pytest.mark.django_db


def _told(row: Workspace) -> None:
    assert (row.state, row.failure["code"]) == (State.FAILED, "volume_missing")
    assert row.failure["responsible"] == "cluster"
    assert "not where it was" in row.failure["text"]
    assert "Nothing was made up" in row.failure["text"]
    assert "administrator" in row.failure["next_step"]
    step = Condition.objects.get(type="volume", run=row.run)
    assert (step.status, step.code) == ("failed", "volume_missing")


def test_a_vanished_volume_is_told_and_not_made_up(stage: Stage, owner: User, pending: Workspace) -> None:
    running = stage.work(seconds=10)
    intents.stop(running, actor=owner, now=timezone.now())
    stage.work(seconds=5)
    stage.runtime.destroy_volume(pending.slug)
    intents.start(stage.row(), actor=owner, now=timezone.now())
    _told(stage.work(seconds=5))
    assert stage.runtime.list() == []
    stage.runtime.ensure_volume(pending.slug)  # The disk is mounted again.
    intents.start(stage.row(), actor=owner, now=timezone.now())
    assert stage.work(seconds=5).state == State.RUNNING


def test_a_volume_that_vanished_in_the_trash(stage: Stage, owner: User, pending: Workspace) -> None:
    intents.delete(stage.work(seconds=10), actor=owner, now=timezone.now())
    stage.work(seconds=5)
    stage.runtime.destroy_volume(pending.slug)
    restored = intents.restore(stage.row(), actor=owner, now=timezone.now())
    intents.start(restored, actor=owner, now=timezone.now())
    _told(stage.work(seconds=5))


def test_a_volume_that_vanishes_under_a_running_workspace(stage: Stage, owner: User, pending: Workspace) -> None:
    running = stage.work(seconds=10)
    stage.runtime.destroy_run(running.slug)
    stage.runtime.destroy_volume(running.slug)
    intents.restart(running, actor=owner, now=timezone.now())
    _told(stage.work(seconds=20))


class Dies(FakeRuntime):
    """Its caller is killed right after the first run was accepted."""

    died = False

    def ensure_run(self, spec: RunSpec) -> Observation:
        seen = super().ensure_run(spec)
        if not self.died:
            self.died = True
            raise KeyboardInterrupt
        return seen


def test_a_worker_killed_after_the_launch_leaves_no_gap(stage: Stage, owner: User, pending: Workspace) -> None:
    stage.runtime = Dies()
    with pytest.raises(KeyboardInterrupt):
        stage.look()
    assert stage.row().launched_run == 0
    running = stage.work(seconds=10)
    assert (running.state, running.launched_run) == (State.RUNNING, 1)
    steps = dict(Condition.objects.filter(run=1).values_list("type", "status"))
    assert (steps["volume"], steps["container"]) == ("done", "done")
    intents.stop(running, actor=owner, now=timezone.now())
    stage.work(seconds=5)
    stage.runtime.destroy_volume(pending.slug)
    intents.start(stage.row(), actor=owner, now=timezone.now())
    _told(stage.work(seconds=5))


def test_a_first_start_that_was_never_accepted_makes_it(stage: Stage, owner: User, pending: Workspace) -> None:
    intents.delete(pending, actor=owner, now=timezone.now())
    stage.work(seconds=5)
    restored = intents.restore(stage.row(), actor=owner, now=timezone.now())
    intents.start(restored, actor=owner, now=timezone.now())
    assert stage.work(seconds=5).state == State.RUNNING


def test_on_this_machine_a_removed_folder_stays_removed(owner: User, workspace_factory: Factory) -> None:
    workspace = workspace_factory(owner, slug="demo", look_again_at=timezone.now())
    with local_rig("none") as rig:
        reconcile(workspace.pk, rig.runtime)
        workspace.refresh_from_db()
        assert workspace.launched_run == 1
        intents.stop(workspace, actor=owner, now=timezone.now())
        rig.runtime.destroy_run("demo")
        reconcile(workspace.pk, rig.runtime)
        folder = rig.root / "var" / "workspaces" / "demo"
        away = Path(f"{folder}-away")
        folder.rename(away)
        intents.start(workspace, actor=owner, now=timezone.now())
        reconcile(workspace.pk, rig.runtime)
        workspace.refresh_from_db()
        assert (workspace.state, workspace.failure["code"]) == (State.FAILED, "volume_missing")
        assert not folder.exists()
        assert rig.runtime.observe("demo").presence is Presence.ABSENT
        away.rename(folder)
