"""What a runtime that can tell says of a run, as its owner sees it: the steps of a start, and what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from accounts.models import User
from kernel.errors import UserFault
from tests.services.stage import Stage
from workspaces.models import Condition, Event, Workspace
from workspaces.operator.clear import clear_run
from workspaces.runtime.port import Step
from workspaces.services import intents
from workspaces.states import Reason, State

Factory = Callable[..., Workspace]
pytestmark = pytest.mark.django_db

ROOM = Step("scheduled", "running", "scaling_up", "A new machine is being added.", "It starts as soon as it is there.")
PLACED = (Step("scheduled", "done"), Step("volume", "done"), Step("image", "running", message="Pulling image x"))
UP = (*PLACED[:2], Step("image", "done", message="Pulled in 3 s"), Step("container", "done"))
NO_IMAGE = Step("image", "failed", "image_missing", "The image does not exist: x: not found", "Ask for it.")


@pytest.fixture
def starting(stage: Stage, pending: Workspace) -> Workspace:
    """A workspace that has been asked for, in a runtime whose starts take as long as the test wants."""
    return stage.give(pending)


def steps_of(client: Client, workspace: Workspace) -> dict[str, dict[str, Any]]:
    answer = client.get(f"/api/v1/workspaces/{workspace.pk}")
    return {step["type"]: step for step in answer.json()["conditions"]}


def test_a_start_is_told_in_the_clusters_own_words(stage: Stage, starting: Workspace, owner_client: Client) -> None:
    stage.behave(start_after=1000, steps=(ROOM, Step("volume", "waiting"), Step("image", "waiting")))
    stage.look()
    told = steps_of(owner_client, starting)
    assert told.keys() == {"queued", "scheduled"}
    assert (told["scheduled"]["code"], told["scheduled"]["message"]) == ("scaling_up", ROOM.message)
    page = owner_client.get(f"/workspaces/{starting.slug}").content.decode()
    assert ROOM.message in page
    assert ROOM.next_step in page
    stage.behave(start_after=1000, steps=PLACED)
    stage.look()
    assert steps_of(owner_client, starting)["image"]["message"] == "Pulling image x"
    stage.behave(steps=UP)
    stage.look()
    told = steps_of(owner_client, starting)
    assert {kind: step["status"] for kind, step in told.items()} == dict.fromkeys(
        ("queued", "scheduled", "volume", "image", "container"), "done"
    )
    stage.report()
    assert stage.look().state == State.RUNNING


def test_waiting_for_a_machine_has_a_deadline_of_its_own(stage: Stage, starting: Workspace) -> None:
    stage.behave(start_after=100_000, steps=(ROOM,))
    env = settings.ENVIRONMENT
    assert env.schedule_timeout > env.start_timeout
    assert stage.work(seconds=env.start_timeout * 2, ready=False).state == State.STARTING
    row = stage.work(seconds=env.schedule_timeout, ready=False)
    assert row.state == State.FAILED
    assert (row.failure["code"], row.failure["text"]) == ("scaling_up", ROOM.message)


def test_each_step_that_is_done_gives_a_start_more_time(stage: Stage, starting: Workspace) -> None:
    almost = settings.ENVIRONMENT.start_timeout - 10
    stage.behave(start_after=100_000, steps=PLACED[:1])
    for number in range(1, 4):
        stage.behave(start_after=100_000, steps=PLACED[:number])
        assert stage.work(seconds=almost, ready=False).state == State.STARTING
    assert stage.work(seconds=30, ready=False).state == State.FAILED


def test_other_words_for_the_same_step_give_it_no_more_time(stage: Stage, starting: Workspace) -> None:
    for number in range(4):
        stage.behave(start_after=100_000, steps=(*PLACED[:2], Step("image", "running", message=f"try {number}")))
        stage.work(seconds=settings.ENVIRONMENT.start_timeout / 3, ready=False)
    assert stage.row().state == State.FAILED


def test_what_can_never_come_up_fails_at_once(stage: Stage, starting: Workspace, owner_client: Client) -> None:
    stage.behave(start_after=1000, hindrance="image_missing", steps=(*PLACED[:2], NO_IMAGE))
    row = stage.work(seconds=3, ready=False)
    assert (row.state, row.run) == (State.FAILED, 1)
    assert row.failure["code"] == "image_missing"
    assert (row.failure["text"], row.failure["next_step"]) == (NO_IMAGE.message, NO_IMAGE.next_step)
    assert row.failure["responsible"] == "user"
    assert steps_of(owner_client, starting)["image"]["status"] == "failed"
    # What could not come up is not left behind.
    stage.work(seconds=5, ready=False)
    assert stage.presence().value == "absent"


def test_a_step_told_late_does_not_open_a_start_that_is_over(stage: Stage, owner: User, starting: Workspace) -> None:
    stage.behave(start_after=1000, stop_after=1000, steps=PLACED)
    stage.look()
    intents.stop(stage.row(), actor=owner, now=stage.row().progress_at)
    stage.look()
    stage.behave(start_after=1000, stop_after=1000, steps=(*PLACED[:2], Step("image", "running", message="news")))
    stage.look()
    assert Condition.objects.get(type="image").code == "called_off"


def test_an_eviction_is_told_and_started_again_once(stage: Stage, starting: Workspace) -> None:
    stage.work(seconds=10)
    stage.behave(exit_after=0, exit_reason="evicted")
    row = stage.look()
    stage.behave()
    assert (row.reason, row.run) == (Reason.INTERRUPTED, 2)
    assert "needed its machine" in Event.objects.filter(kind="state", reason="interrupted").get().text
    stage.work(seconds=10)
    stage.behave(exit_after=0, exit_reason="evicted")
    row = stage.look()
    assert (row.state, row.failure["code"]) == (State.FAILED, "evicted")


def test_a_silent_machine_is_shown_and_nothing_is_done_about_it(
    stage: Stage, starting: Workspace, owner_client: Client
) -> None:
    stage.work(seconds=10)
    stage.behave(observe_unknown=True, unknown_reason="node_lost")
    row = stage.work(seconds=600)
    assert (row.state, row.run, row.warnings) == (State.RUNNING, 1, ["node_lost"])
    assert "does not answer" in owner_client.get(f"/workspaces/{row.slug}").content.decode()
    stage.behave()
    row = stage.work(seconds=60)
    assert (row.state, row.run, row.warnings) == (State.RUNNING, 1, [])


def test_a_warning_that_comes_later_is_shown(stage: Stage, starting: Workspace, owner_client: Client) -> None:
    stage.work(seconds=10)
    stage.behave(warnings=("restart_to_apply",))
    row = stage.work(seconds=60)
    assert (row.state, row.run, row.warnings) == (State.RUNNING, 1, ["restart_to_apply"])
    assert "Restart it to apply" in owner_client.get(f"/workspaces/{row.slug}").content.decode()


def test_only_a_machine_that_is_silent_is_given_up(stage: Stage, starting: Workspace) -> None:
    stage.work(seconds=10)
    answers = UserFault("machine_answers", "The machine answers.", "Let it end it.")
    stage.behave(fail={"abandon_run": answers})
    with pytest.raises(UserFault, match="The machine answers"):
        clear_run(starting.slug, stage.runtime, machine_is_off=True)
    stage.behave()
    clear_run(starting.slug, stage.runtime, machine_is_off=True)
    row = stage.work(seconds=10)
    assert (row.state, row.run) == (State.RUNNING, 2)
