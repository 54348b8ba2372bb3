"""The only place that writes a state."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import structlog
from django.db import transaction

from accounts.models import User
from kernel import observe, redis
from workspaces.models import Workspace
from workspaces.services import conditions, devclusters, events
from workspaces.states import RESTING, TRANSITIONS, EventKind, Reason, State

log = structlog.get_logger(__name__)
# From these to those, a start is over, with all its steps.
_COMING_UP = frozenset({State.PENDING, State.STARTING, State.RUNNING})
_COMING_DOWN = frozenset({State.STOPPING, State.STOPPED, State.DELETING, State.FAILED})


def transition(
    workspace: Workspace,
    target: State,
    *,
    now: datetime,
    reason: Reason,
    text: str = "",
    actor: User | None = None,
    **fields: Any,
) -> bool:
    """Move a workspace to `target` if it is still as `workspace` says: same state, generation and run.

    `fields` are written in the same statement, the event in the same transaction. False means that somebody else was
    first: the caller returns quietly, and looks again if it matters. On True the instance is brought up to date.

    Raises:
        ValueError: `target` may never follow the workspace's state: a mistake in the caller.
    """
    source = State(workspace.state)
    if target not in TRANSITIONS[source]:
        raise ValueError(f"{source} -> {target} is no transition")
    changes: dict[str, Any] = {"state": target.value, "reason": reason.value, "progress_at": now, **fields}
    changes.setdefault("look_again_at", None if target in RESTING else now)
    if target is State.PURGED:
        # Nothing is left that would keep its team from being deleted.
        changes["team"] = None
    with transaction.atomic():
        won = Workspace.objects.filter(
            pk=workspace.pk, state=source.value, generation=workspace.generation, run=workspace.run
        ).update(**changes)
        if not won:
            return False
        if source in _COMING_UP and target in _COMING_DOWN:
            conditions.call_off(workspace, now=now)
        devclusters.on_transition(workspace, source, target, new_run=changes.get("run", workspace.run) != workspace.run)
        for name, value in changes.items():
            setattr(workspace, name, value)
        events.record(
            workspace,
            EventKind.STATE,
            source=source.value,
            target=target.value,
            reason=reason.value,
            text=text,
            actor=actor,
        )
    observe.TRANSITIONS.labels(source.value, target.value).inc()
    log.info("state_changed", workspace=str(workspace.pk), source=source, target=target, reason=reason.value)
    if source is State.RUNNING:
        # Gateways remember that it runs; they must ask again before the next request.
        transaction.on_commit(lambda: redis.publish(redis.REVOCATIONS, {"workspace": str(workspace.pk)}))
    return True
