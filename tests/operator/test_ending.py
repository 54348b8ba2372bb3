"""An end that does not come in time, or of which nobody can tell: it is told, and nothing that was wanted is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.utils import timezone

from accounts.models import User
from kernel.errors import ClusterFault
from tests.services.stage import Stage, said
from workspaces.models import Workspace
from workspaces.services import intents
from workspaces.states import State

pytestmark = pytest.mark.django_db


def test_an_end_that_is_overdue_is_told_and_then_goes_on(stage: Stage, owner: User, running: Workspace) -> None:
    stage.behave(hang_stop=True)
    intents.stop(running, actor=owner, now=timezone.now())
    row = stage.work(seconds=130)
    assert (row.state, row.failure["code"]) == (State.FAILED, "stop_timeout")
    stage.behave()
    row = stage.work(seconds=20)
    assert (row.state, row.failure, row.look_again_at) == (State.STOPPED, {}, None)


@pytest.mark.parametrize("wish", [intents.restart, intents.start])
def test_a_wish_outlives_an_end_that_is_overdue(
    stage: Stage, owner: User, running: Workspace, wish: Callable[..., Workspace]
) -> None:
    stage.behave(hang_stop=True)
    if wish is intents.start:
        intents.stop(running, actor=owner, now=timezone.now())
        stage.work(seconds=5)
    wish(stage.row(), actor=owner, now=timezone.now())
    assert stage.work(seconds=130).state == State.FAILED
    stage.behave()
    row = stage.work(seconds=20)
    assert (row.state, row.run, row.failure) == (State.RUNNING, 2, {})


def test_a_deletion_called_off_while_its_end_is_overdue(stage: Stage, owner: User, running: Workspace) -> None:
    stage.behave(hang_stop=True)
    intents.delete(running, actor=owner, now=timezone.now())
    assert stage.work(seconds=130).state == State.FAILED
    intents.restore(stage.row(), actor=owner, now=timezone.now())
    stage.behave()
    row = stage.work(seconds=20)
    assert (row.state, row.failure) == (State.STOPPED, {})


def test_a_start_of_which_nobody_can_tell_is_told(stage: Stage, owner: User, running: Workspace) -> None:
    intents.stop(running, actor=owner, now=timezone.now())
    stage.work(seconds=5)
    stage.behave(observe_unknown=True)
    for _ in range(2):
        intents.start(stage.row(), actor=owner, now=timezone.now())
        assert stage.work(seconds=290).state != State.RUNNING
        row = stage.work(seconds=30)
        assert (row.state, row.failure["code"]) == (State.FAILED, "runtime_silent")
        assert row.failure["generation"] == row.generation
        assert "clear_run" in row.failure["next_step"]
    stage.behave()
    assert stage.work(seconds=20).run == 1
    intents.start(stage.row(), actor=owner, now=timezone.now())
    assert stage.work(seconds=20).state == State.RUNNING


def test_a_failed_one_restored_on_its_way_to_the_trash_has_no_failure(
    stage: Stage, owner: User, pending: Workspace
) -> None:
    stage.look()
    stage.report(said({"type": "content", "status": "failed", "code": "x", "message": "x"}))
    failed = stage.work(seconds=5, ready=False)
    stage.behave(fail={"observe": ClusterFault("cluster_away", "Away.")})
    intents.delete(failed, actor=owner, now=timezone.now())
    Workspace.objects.update(state="deleting")
    intents.restore(stage.row(), actor=owner, now=timezone.now())
    stage.behave()
    row = stage.work(seconds=5)
    assert (row.state, row.failure) == (State.STOPPED, {})
