"""What people want, and what that changes."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import User
from kernel.errors import Conflict, Invalid, TooMany
from tests.services.stage import together
from workspaces.models import Event, Workspace
from workspaces.services import intents
from workspaces.services.transition import transition
from workspaces.states import Desired, Reason, State

Factory = Callable[..., Workspace]


def test_two_clicks_on_start_are_one_intent(owner: User, workspace_factory: Factory) -> None:
    workspace = workspace_factory(owner, state="stopped", desired="stopped")
    first = intents.start(workspace, actor=owner, now=timezone.now())
    second = intents.start(Workspace.objects.get(), actor=owner, now=timezone.now())
    assert (first.generation, second.generation) == (2, 2)
    assert Event.objects.filter(kind="intent").count() == 1


def test_start_after_a_failure_is_a_new_intent(owner: User, workspace_factory: Factory) -> None:
    workspace = workspace_factory(owner, state="failed", failure={"generation": 1, "code": "x"})
    assert intents.start(workspace, actor=owner, now=timezone.now()).generation == 2


def test_the_last_intent_wins(owner: User, workspace_factory: Factory) -> None:
    workspace = workspace_factory(owner, state="starting")
    now = timezone.now()
    intents.stop(workspace, actor=owner, now=now)
    intents.start(workspace, actor=owner, now=now)
    intents.delete(workspace, actor=owner, now=now)
    assert (workspace.desired, workspace.generation) == (Desired.DELETED, 4)
    with pytest.raises(Conflict) as refused:
        intents.start(workspace, actor=owner, now=now)
    assert refused.value.code == "workspace_deleting"
    assert refused.value.next_step


def test_an_intent_with_an_outdated_row_still_counts(owner: User, workspace_factory: Factory) -> None:
    workspace = workspace_factory(owner, state="running")
    outdated = Workspace.objects.get()
    intents.restart(workspace, actor=owner, now=timezone.now())
    intents.stop(outdated, actor=owner, now=timezone.now())
    assert outdated.generation == 3
    assert not Workspace.objects.get().restart_pending


def test_a_transition_loses_quietly_to_whoever_was_first(owner: User, workspace_factory: Factory) -> None:
    first, second = workspace_factory(owner, state="starting"), Workspace.objects.get()
    now = timezone.now()
    assert transition(first, State.RUNNING, now=now, reason=Reason.USER)
    assert not transition(second, State.FAILED, now=now, reason=Reason.FAILURE)
    assert Workspace.objects.get().state == "running"
    assert Event.objects.filter(kind="state").count() == 1


def test_a_transition_that_makes_no_sense_is_a_mistake(owner: User, workspace_factory: Factory) -> None:
    with pytest.raises(ValueError, match="stopped -> running"):
        transition(workspace_factory(owner, state="stopped"), State.RUNNING, now=timezone.now(), reason=Reason.USER)


def test_restore_only_from_the_trash(owner: User, workspace_factory: Factory) -> None:
    workspace = workspace_factory(owner, state="deleted", desired="deleted", purge_at=timezone.now())
    restored = intents.restore(workspace, actor=owner, now=timezone.now())
    assert (restored.state, restored.desired, restored.purge_at) == ("stopped", "stopped", None)


def test_restoring_again_changes_nothing(owner: User, workspace_factory: Factory) -> None:
    workspace = workspace_factory(owner, state="deleted", desired="deleted", purge_at=timezone.now())
    for _ in range(2):
        again = intents.restore(Workspace.objects.get(pk=workspace.pk), actor=owner, now=timezone.now())
        assert (again.state, again.desired, again.generation) == ("stopped", "stopped", 2)
    assert Event.objects.count() == 1


@contextlib.contextmanager
def _meanwhile(event: Callable[[], object]) -> Iterator[None]:
    """Something happens between a service's look at a workspace and its first write to it."""
    waiting = [event]

    def first(execute: Callable[..., object], sql: str, *rest: object) -> object:
        if sql.startswith('UPDATE "workspaces_workspace"') and waiting:
            waiting.pop()()
        return execute(sql, *rest)

    with connection.execute_wrapper(first):
        yield
    assert not waiting


def _moves(target: State) -> Callable[[], object]:
    return lambda: transition(Workspace.objects.get(), target, now=timezone.now(), reason=Reason.DELETED)


@pytest.mark.parametrize(
    ("state", "target", "restored"),
    [
        ("running", State.STOPPING, "stopping"),
        ("stopping", State.STOPPED, "stopped"),
        ("stopped", State.DELETING, "deleting"),
        ("deleting", State.DELETED, "stopped"),
    ],
)
def test_a_deletion_that_moves_on_meanwhile_is_called_off_all_the_same(
    owner: User, workspace_factory: Factory, state: str, target: State, restored: str
) -> None:
    workspace = workspace_factory(owner, state=state, desired="deleted")
    with _meanwhile(_moves(target)):
        intents.restore(workspace, actor=owner, now=timezone.now())
    row = Workspace.objects.get()
    assert (row.state, row.desired) == (restored, "stopped")


def test_a_restore_that_comes_too_late_is_told_so(owner: User, workspace_factory: Factory) -> None:
    workspace = workspace_factory(owner, state="deleted", desired="deleted", purge_at=timezone.now())
    with _meanwhile(_moves(State.PURGED)), pytest.raises(Conflict) as refused:
        intents.restore(workspace, actor=owner, now=timezone.now())
    assert refused.value.code == "workspace_purged"


@pytest.fixture
def one_place(settings: Any) -> None:
    settings.ENVIRONMENT = dataclasses.replace(settings.ENVIRONMENT, max_workspaces=1)


def test_the_trash_is_no_way_around_the_limit(owner: User, workspace_factory: Factory, one_place: None) -> None:
    workspace_factory(owner, slug="taken")
    deleted = workspace_factory(owner, slug="rocket", state="deleted", desired="deleted", purge_at=timezone.now())
    with pytest.raises(TooMany) as refused:
        intents.restore(deleted, actor=owner, now=timezone.now())
    assert (refused.value.code, Workspace.objects.get(slug="rocket").state) == ("workspace_limit", "deleted")
    Workspace.objects.filter(slug="taken").update(state="purged")
    assert intents.restore(deleted, actor=owner, now=timezone.now()).state == "stopped"


def test_calling_a_deletion_off_needs_no_other_place(owner: User, workspace_factory: Factory, one_place: None) -> None:
    workspace = workspace_factory(owner, state="running", desired="deleted")
    assert intents.restore(workspace, actor=owner, now=timezone.now()).desired == "stopped"


@pytest.mark.django_db(transaction=True)
def test_two_restores_at_once_do_not_pass_the_limit_together(
    owner: User, workspace_factory: Factory, one_place: None
) -> None:
    rows = [
        workspace_factory(owner, slug=slug, state="deleted", desired="deleted", purge_at=timezone.now())
        for slug in ("one", "two", "three")
    ]
    results = together([partial(intents.restore, row, actor=owner, now=timezone.now()) for row in rows])
    assert sorted(type(result).__name__ for result in results) == ["TooMany", "TooMany", "Workspace"]


@pytest.mark.parametrize("state", ["pending", "starting", "running", "stopping", "stopped", "failed", "deleting"])
def test_a_deletion_under_way_can_be_called_off(owner: User, workspace_factory: Factory, state: str) -> None:
    workspace = workspace_factory(owner, state=state, desired="deleted")
    restored = intents.restore(workspace, actor=owner, now=timezone.now())
    assert (restored.state, restored.desired, restored.generation) == (state, "stopped", 2)


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "a\x00b", "a\x1b[31m"])
def test_a_name_must_be_a_name(owner: User, workspace_factory: Factory, name: str) -> None:
    with pytest.raises(Invalid) as refused:
        intents.rename(workspace_factory(owner), name=name, actor=owner)
    assert refused.value.field == "name"


def test_two_clicks_on_start_after_a_failure_are_one_try(owner: User, workspace_factory: Factory) -> None:
    workspace = workspace_factory(owner, state="failed", failure={"generation": 1, "code": "x"})
    intents.start(workspace, actor=owner, now=timezone.now())
    assert intents.start(Workspace.objects.get(), actor=owner, now=timezone.now()).generation == 2
    assert Event.objects.filter(kind="intent").count() == 1
