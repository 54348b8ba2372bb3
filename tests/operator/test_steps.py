"""The steps of a start: none stays under way once the start is over, and those of earlier runs are forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from tests.services.stage import Stage, said
from workspaces.models import Condition, Workspace
from workspaces.services import intents, report
from workspaces.states import State

Factory = Callable[..., Workspace]
pytestmark = pytest.mark.django_db
CLONING = said({"type": "content", "status": "running", "message": "Cloning", "progress": 0.42})
SETUP = said(
    {"type": "content", "status": "done"},
    {"type": "ide", "status": "done"},
    {"type": "commands", "status": "running", "message": "npm ci"},
)


def _steps(client: Client, workspace: Workspace) -> dict[str, dict[str, Any]]:
    body = client.get(f"/api/v1/workspaces/{workspace.pk}").json()
    return {step["type"]: step for step in body["conditions"]}


def test_a_stop_in_the_middle_of_a_clone_calls_it_off(
    stage: Stage, owner: User, pending: Workspace, owner_client: Client
) -> None:
    stage.look()
    stage.report(CLONING)
    outdated = stage.row()
    stage.behave(stop_after=3)
    intents.stop(stage.row(), actor=owner, now=timezone.now())
    assert stage.look().state == State.STOPPING
    # What the agent says while it ends, and what it said just before, but is worked on only now.
    stage.report(CLONING)
    report.apply(outdated, CLONING, now=timezone.now())
    assert stage.work(seconds=10, ready=False).state == State.STOPPED
    report.apply(outdated, CLONING, now=timezone.now())
    step = _steps(owner_client, pending)["content"]
    assert (step["status"], step["code"], step["progress"]) == ("failed", "called_off", None)
    assert step["message"]
    assert step["finished_at"]
    page = owner_client.get(f"/workspaces/{pending.slug}").content.decode()
    assert "Called off before it was done" in page
    assert "step-running" not in page
    assert "step-failed" not in page


def test_what_is_done_while_it_stops_is_still_told(
    stage: Stage, owner: User, pending: Workspace, owner_client: Client
) -> None:
    stage.look()
    stage.report(CLONING)
    stage.behave(stop_after=3)
    intents.stop(stage.row(), actor=owner, now=timezone.now())
    stage.look()
    stage.report(said({"type": "content", "status": "done"}))
    assert _steps(owner_client, pending)["content"]["status"] == "done"


def test_setup_that_is_stopped_and_a_page_that_does_not_say_running(
    stage: Stage, owner: User, pending: Workspace, owner_client: Client
) -> None:
    stage.look()
    stage.report(SETUP)
    assert stage.look().state == State.RUNNING
    page = owner_client.get(f"/workspaces/{pending.slug}").content.decode()
    assert "Running since" in page
    assert "step-running" in page
    intents.stop(stage.row(), actor=owner, now=timezone.now())
    assert stage.work(seconds=10, ready=False).state == State.STOPPED
    assert _steps(owner_client, pending)["commands"]["code"] == "called_off"
    page = owner_client.get(f"/workspaces/{pending.slug}").content.decode()
    assert "Running since" not in page
    assert "step-running" not in page


def test_a_stop_before_its_turn(stage: Stage, owner: User, owner_client: Client, workspace_factory: Factory) -> None:
    workspace = stage.give(workspace_factory(owner, look_again_at=timezone.now()))
    Condition.objects.create(workspace=workspace, run=0, type="queued", status="running")
    intents.stop(workspace, actor=owner, now=timezone.now())
    assert stage.look().state == State.STOPPED
    assert _steps(owner_client, workspace)["queued"]["code"] == "called_off"


def test_a_start_that_fails_leaves_nothing_under_way(stage: Stage, pending: Workspace, owner_client: Client) -> None:
    stage.look()
    stage.report(said({"type": "content", "status": "failed", "code": "x"}, {"type": "ide", "status": "running"}))
    assert stage.work(seconds=5, ready=False).state == State.FAILED
    steps = _steps(owner_client, pending)
    assert (steps["content"]["code"], steps["ide"]["code"]) == ("x", "called_off")


def test_only_the_steps_of_the_present_run_are_kept(stage: Stage, owner: User, pending: Workspace) -> None:
    stage.work(seconds=10)
    intents.restart(stage.row(), actor=owner, now=timezone.now())
    stage.work(seconds=10)
    stage.runtime.destroy_run(pending.slug)
    row = stage.work(seconds=30)
    assert (row.state, row.run) == (State.RUNNING, 3)
    assert set(Condition.objects.values_list("run", flat=True)) == {3}
