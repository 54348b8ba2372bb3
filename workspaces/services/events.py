"""History: every entry is written in the transaction of what it tells, and announced after the commit."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db import transaction

from accounts.models import User
from accounts.services import audit
from kernel import redis
from workspaces.models import Event, Workspace
from workspaces.states import EventKind

LONGEST_TEXT = 2_000


def record(
    workspace: Workspace,
    kind: EventKind,
    *,
    text: str = "",
    reason: str = "",
    source: str = "",
    target: str = "",
    actor: User | None = None,
    data: dict[str, Any] | None = None,
) -> Event:
    """Write one entry and, once committed, wake whoever watches this workspace or its owner's list.

    What a person asked for is kept in the audit log too, which outlives the workspace.
    """
    event = Event.objects.create(
        workspace=workspace,
        kind=kind.value,
        source=source,
        target=target,
        reason=reason,
        text=text[:LONGEST_TEXT],
        data=data or {},
        actor=actor,
        generation=workspace.generation,
    )
    if actor is not None:
        audit.record(f"workspace.{target or kind}", subject_of(workspace), actor=actor, reason=reason or text)
    announce(workspace)
    return event


def note(workspace: Workspace, text: str, *, actor: User) -> None:
    """Write that somebody changed something which its service tells the audit log itself, in more than words."""
    Event.objects.create(
        workspace=workspace,
        kind=EventKind.CHANGE.value,
        text=text[:LONGEST_TEXT],
        actor=actor,
        generation=workspace.generation,
    )
    announce(workspace)


def subject_of(workspace: Workspace) -> audit.Subject:
    """A workspace as the audit log names it."""
    return audit.Subject("workspace", workspace.pk, workspace.slug, workspace.team_id)


def forget_details(workspace: Workspace) -> None:
    """Keep of a workspace that is gone what people asked for and what became of it, not what its runs told."""
    details = [EventKind.CONDITION.value, EventKind.NOTICE.value]
    Event.objects.filter(workspace=workspace, kind__in=details).delete()


def announce(workspace: Workspace) -> None:
    """Wake the watchers without an entry, for what changes too often to be history."""
    message: dict[str, str | int] = {"workspace": str(workspace.pk), "owner": workspace.owner_id}
    transaction.on_commit(partial(redis.publish, redis.EVENTS, message))
