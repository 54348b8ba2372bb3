"""A user who is disabled: their workspaces stop, and their files stay."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.utils import timezone

from accounts.models import User
from kernel.errors import Conflict
from tests.support import queue
from workspaces.models import Event, Grant, Workspace
from workspaces.services import intents, owners

Factory = Callable[..., Workspace]


def disable(user: User) -> None:
    user.is_active = False
    user.save(update_fields=["is_active"])


def test_what_a_disabled_user_has_is_stopped_and_kept(owner: User, member: User, workspace_factory: Factory) -> None:
    states = ("running", "starting", "pending", "failed", "stopped")
    for state in states:
        workspace_factory(
            owner, slug=f"{state}-bcdfg", state=state, desired="stopped" if state == "stopped" else "running"
        )
    workspace_factory(owner, slug="trash-bcdfg", state="deleted", desired="deleted")
    theirs = workspace_factory(member, slug="other-bcdfg", state="running", desired="running")
    assert owners.stop_of_disabled(now=timezone.now()) == 0
    disable(owner)
    assert owners.stop_of_disabled(now=timezone.now()) == 4
    assert owners.stop_of_disabled(now=timezone.now()) == 0
    found = {row.slug: row.desired for row in Workspace.objects.filter(owner=owner)}
    assert found == {**{f"{state}-bcdfg": "stopped" for state in states}, "trash-bcdfg": "deleted"}
    assert Workspace.objects.get(pk=theirs.pk).desired == "running"
    assert {event.reason for event in Event.objects.all()} == {"owner_disabled"}


@pytest.mark.django_db(transaction=True)
def test_it_is_done_at_once(owner: User) -> None:
    owner.display_name = "Somebody else"
    owner.save(update_fields=["display_name"])
    assert queue.asked("workspaces.stop_of_disabled") == []
    disable(owner)
    assert queue.asked("workspaces.stop_of_disabled") == [str(owner.pk)]


def test_a_guest_cannot_start_it_again(owner: User, member: User, workspace_factory: Factory) -> None:
    workspace = workspace_factory(owner, state="stopped", desired="stopped")
    Grant.objects.create(workspace=workspace, user=member, level="manage")
    disable(owner)
    with pytest.raises(Conflict, match="owner is disabled"):
        intents.start(Workspace.objects.get(), actor=member, now=timezone.now())
    assert intents.delete(Workspace.objects.get(), actor=member, now=timezone.now()).desired == "deleted"
