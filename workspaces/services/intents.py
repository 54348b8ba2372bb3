"""What people want of a workspace. An intent is accepted at once and carried out by the operator."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from accounts.models import User
from kernel import jobs
from kernel.errors import Conflict
from workspaces.models import Workspace
from workspaces.services import events, limits
from workspaces.services.transition import transition
from workspaces.states import GONE, Desired, EventKind, Reason, State

RACES = 5


def start(workspace: Workspace, *, actor: User | None, now: datetime, reason: Reason = Reason.USER) -> Workspace:
    """Want it running. Wanting what is already so changes nothing, so two clicks are one."""
    return _want(workspace, Desired.RUNNING, actor=actor, now=now, reason=reason)


def stop(workspace: Workspace, *, actor: User | None, now: datetime, reason: Reason = Reason.USER) -> Workspace:
    """Want it stopped; its files stay."""
    return _want(workspace, Desired.STOPPED, actor=actor, now=now, reason=reason)


def restart(workspace: Workspace, *, actor: User | None, now: datetime) -> Workspace:
    """Want a fresh run."""
    return _want(workspace, Desired.RUNNING, actor=actor, now=now, reason=Reason.RESTART, restart=True)


def delete(workspace: Workspace, *, actor: User | None, now: datetime) -> Workspace:
    """Want it in the trash, from which it can be restored until its time is up."""
    return _want(workspace, Desired.DELETED, actor=actor, now=now, reason=Reason.DELETED)


def _want(
    workspace: Workspace,
    desired: Desired,
    *,
    actor: User | None,
    now: datetime,
    reason: Reason,
    restart: bool = False,
) -> Workspace:
    for _ in range(RACES):
        _read_again(workspace)
        if State(workspace.state) in GONE:
            if desired is Desired.DELETED:
                return workspace
            raise Conflict("workspace_deleted", "This workspace is in the trash.", "Restore it first, then start it.")
        if workspace.desired == Desired.DELETED.value and desired is not Desired.DELETED:
            raise Conflict(
                "workspace_deleting",
                "This workspace is being deleted.",
                "Wait until it is in the trash, then restore it.",
            )
        if desired is Desired.RUNNING and not workspace.owner.is_active:
            raise Conflict(
                "owner_disabled",
                "The account of this workspace's owner is disabled.",
                "Ask an administrator to enable it.",
            )
        if _already(workspace, desired, restart=restart) or _accept(workspace, desired, actor, now, reason, restart):
            return workspace
    raise _busy()


def _read_again(workspace: Workspace) -> None:
    """As the database has it now, in one statement: a plain refresh would forget whose it is, and what of."""
    workspace.refresh_from_db(from_queryset=Workspace.objects.select_related("owner", "repository"))


def _already(workspace: Workspace, desired: Desired, *, restart: bool) -> bool:
    """Whether the intent is fulfilled or under way, so that accepting it again would be a second run of it."""
    if workspace.desired != desired.value:
        return False
    if desired is Desired.RUNNING and workspace.state == State.FAILED.value:
        # The first of two clicks already asked for another try, if the failure is of an earlier intent.
        return bool(workspace.failure.get("generation", 0) < workspace.generation)
    running = workspace.state == State.RUNNING.value
    return not (restart and running and not workspace.restart_pending)


def _accept(
    workspace: Workspace,
    desired: Desired,
    actor: User | None,
    now: datetime,
    reason: Reason,
    restart: bool,  # noqa: FBT001 - Private.
) -> bool:
    changes: dict[str, Any] = {
        "desired": desired.value,
        "generation": workspace.generation + 1,
        "reason": reason.value,
        "restart_pending": restart and workspace.state == State.RUNNING.value,
        "interruptions": 0,
        "wanted_at": now,
        "progress_at": now,
        "look_again_at": now,
    }
    with transaction.atomic():
        won = Workspace.objects.filter(pk=workspace.pk, generation=workspace.generation, state=workspace.state).update(
            **changes
        )
        if not won:
            return False
        for name, value in changes.items():
            setattr(workspace, name, value)
        events.record(workspace, EventKind.INTENT, target=desired.value, reason=reason.value, actor=actor)
        jobs.enqueue("workspaces.reconcile", str(workspace.pk))
    return True


def restore(workspace: Workspace, *, actor: User | None, now: datetime) -> Workspace:
    """Take it out of the trash, or call off its way there; it is stopped then, with all its files.

    What is not deleted stays as it is, so asking again changes nothing.

    Raises:
        Conflict: its time was up and it is gone.
        TooMany: its owner has as many other workspaces as one person may have.
    """
    for _ in range(RACES):
        _read_again(workspace)
        if workspace.state == State.PURGED.value:
            raise Conflict("workspace_purged", "This workspace was deleted for good.", "Create a new one.")
        if workspace.desired != Desired.DELETED.value:
            return workspace
        in_trash = workspace.state == State.DELETED.value
        if (
            _take_out(workspace, actor, now)
            if in_trash
            else _accept(workspace, Desired.STOPPED, actor, now, Reason.RESTORED, restart=False)
        ):
            return workspace
    raise _busy()


def _take_out(workspace: Workspace, actor: User | None, now: datetime) -> bool:
    with transaction.atomic():
        limits.lock_places(workspace.owner)
        limits.check_place(workspace.owner)
        return transition(
            workspace,
            State.STOPPED,
            now=now,
            reason=Reason.RESTORED,
            actor=actor,
            desired=Desired.STOPPED.value,
            generation=workspace.generation + 1,
            deleted_at=None,
            purge_at=None,
            # A copy of it may be under way, also where this row was read before that began.
            look_again_at=now if workspace.copy_phase or settings.ENVIRONMENT.trash_copies else None,
            failure={},
        )


def _busy() -> Conflict:
    return Conflict("workspace_busy", "Too much is happening to this workspace at once.", "Try again.", temporary=True)


def rename(workspace: Workspace, *, name: str, actor: User | None) -> Workspace:
    """Call it something else. Its slug, and so its addresses, stay."""
    name = limits.tidy_name(name, shortest=1)
    with transaction.atomic():
        Workspace.objects.filter(pk=workspace.pk).update(name=name)
        workspace.name = name
        events.record(workspace, EventKind.CHANGE, text=f"Renamed to {name}", actor=actor)
    return workspace
