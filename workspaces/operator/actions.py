"""The operator's actions: one function per `decide.Action`, each a single step that may be repeated.

An action returns True when the next look should follow at once.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from kernel import jobs, observe
from workspaces.models import Condition, Workspace
from workspaces.operator.decide import HEALTHY_AFTER, Action, Decision
from workspaces.operator.texts import INTERRUPTED, TOLD, failure_of
from workspaces.runtime.port import Observation, Runtime
from workspaces.selectors import conditions_of
from workspaces.services import conditions, events
from workspaces.services.runtimes import run_spec
from workspaces.services.transition import transition
from workspaces.states import (
    OVER,
    RUNTIME_CONDITIONS,
    ConditionStatus,
    ConditionType,
    CopyPhase,
    Desired,
    Reason,
    State,
)

# A look that is due this soon is asked for by a message; later ones are the sweep's.
NUDGE_WITHIN = timedelta(seconds=4)
# How long deleting a volume may take before somebody else has a try.
PURGE_PATIENCE = timedelta(minutes=10)
# One thread of a worker at a time empties the trash, however much is due: the others are for starts and stops. In the
# process, because it is the process's threads that this protects, and because it goes with a worker that is killed.
_EMPTYING = threading.Lock()
TRASH_PAUSE = timedelta(minutes=1)
_ENDING = frozenset({State.STOPPING, State.DELETING})


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """What an action works on: the workspace as it was read, what was seen of it, and what was decided."""

    workspace: Workspace
    seen: Observation
    decision: Decision
    runtime: Runtime


def look_again(workspace: Workspace, at: datetime | None) -> None:
    """Note when to look again, unless the workspace moved on; soon ones are nudged as well.

    An earlier look that is still to come is kept, so that many nudges do not become many chains of looks.
    """
    planned, now = workspace.look_again_at, timezone.now()
    if planned == at or (planned is not None and at is not None and now < planned <= at):
        return
    Workspace.objects.filter(pk=workspace.pk, state=workspace.state, generation=workspace.generation).update(
        look_again_at=at
    )
    if at is not None and (pause := at - now) <= NUDGE_WITHIN:
        jobs.enqueue("workspaces.reconcile", str(workspace.pk), countdown=max(0.05, pause.total_seconds()))


def words(step: dict[str, str]) -> dict[str, str]:
    """A failure's code, text and next step, from those of a condition."""
    return {"code": step["code"], "text": step["message"], "next_step": step["next_step"]}


def fail(workspace: Workspace, failure: dict[str, Any]) -> bool:
    """Move to failed, with `code`, `text`, `next_step` and `responsible` for its owner to read."""
    source, before = State(workspace.state), workspace.failure
    failure["generation"] = workspace.generation
    failure["ending"] = source in _ENDING or (source is State.FAILED and before.get("ending", False))
    now = timezone.now()
    done = transition(
        workspace,
        State.FAILED,
        now=now,
        reason=Reason.FAILURE,
        text=failure["text"],
        failure=failure,
        upstream={},
        look_again_at=now,
    )
    if done:
        observe.FAILURES.labels(failure["responsible"]).inc()
    return done


def _start(step: Step) -> bool:
    workspace = step.workspace
    now = timezone.now()
    with transaction.atomic():
        if not transition(workspace, State.STARTING, now=now, reason=Reason(workspace.reason), **_fresh_run(workspace)):
            return False
        conditions.forget_older(workspace)
        conditions.put(workspace, ConditionType.QUEUED, ConditionStatus.DONE, now=now, started_at=workspace.wanted_at)
    return True


def _fresh_run(workspace: Workspace) -> dict[str, Any]:
    return {
        "run": workspace.run + 1,
        "restart_pending": False,
        "failure": {},
        "upstream": {},
        "ports": [],
        "started_at": None,
        "stopped_at": None,
    }


def _launch(step: Step) -> bool:
    workspace = step.workspace
    begun = timezone.now()
    if not workspace.launched_run:
        # Only now: storage that was there once and has vanished must be missed, not replaced by an empty one.
        step.runtime.ensure_volume(workspace.slug)
    made = timezone.now()
    launched = step.runtime.ensure_run(run_spec(workspace))
    # Stopped or deleted meanwhile: the next look finds a run that nobody wants, and ends it.
    return not _note_launch(workspace, launched, begun, made, look_again_at=step.decision.look_again_at)


def _note_launch(workspace: Workspace, seen: Observation, begun: datetime, made: datetime, **fields: Any) -> bool:
    """Keep that the present run was accepted; False when the workspace has moved on from its start meanwhile."""
    with transaction.atomic():
        still = Workspace.objects.filter(pk=workspace.pk, state=State.STARTING.value, run=workspace.run).update(
            launched_run=workspace.run, warnings=list(seen.warnings), **fields
        )
        if still and seen.steps:
            conditions.take_in(workspace, seen.steps, now=timezone.now())
        elif still:
            done = ConditionStatus.DONE
            conditions.put(
                workspace, ConditionType.VOLUME, done, now=timezone.now(), started_at=begun, finished_at=made
            )
            conditions.put(workspace, ConditionType.CONTAINER, done, now=timezone.now(), started_at=made)
    return bool(still)


def adopt(workspace: Workspace, seen: Observation) -> None:
    """Note a run of which nobody noted that it was accepted: its worker was killed in between."""
    if seen.run is None or not workspace.launched_run < seen.run <= workspace.run:
        return
    if seen.run == workspace.run and workspace.state == State.STARTING.value:
        begun = seen.started_at or timezone.now()
        _note_launch(workspace, seen, begun, begun)
    Workspace.objects.filter(pk=workspace.pk, launched_run__lt=seen.run).update(launched_run=seen.run)
    workspace.launched_run = seen.run


def _retry(step: Step) -> bool:
    workspace = step.workspace
    text, _, _ = failure_of(step.decision.reason)
    now, since = timezone.now(), workspace.started_at
    healthy = workspace.state == State.RUNNING.value and since is not None and now - since > HEALTHY_AFTER
    with transaction.atomic():
        done = transition(
            workspace,
            State.STARTING,
            now=now,
            reason=Reason.INTERRUPTED,
            text=f"{text} It is being started again." if step.decision.reason in TOLD else INTERRUPTED,
            interruptions=1 if healthy else workspace.interruptions + 1,
            wanted_at=now,
            **_fresh_run(workspace),
        )
        if done:
            conditions.forget_older(workspace)
    return done


def _mark_running(step: Step) -> bool:
    workspace = step.workspace
    now = timezone.now()
    # Storage may fill a volume from the copy when it is first used: only now is the copy nobody's only one.
    restored = workspace.copy_phase == CopyPhase.RESTORED.value
    spent: dict[str, Any] = {"copy_phase": CopyPhase.SPENT.value} if restored else {}
    done = transition(
        workspace,
        State.RUNNING,
        now=now,
        reason=Reason(workspace.reason),
        upstream=dict(step.seen.upstream),
        warnings=list(step.seen.warnings),
        started_at=now,
        last_activity_at=now,
        look_again_at=step.decision.look_again_at,
        **spent,
    )
    if done:
        observe.START_SECONDS.observe((now - workspace.wanted_at).total_seconds())
    # It was seen to run a moment ago; what was asked for since has a message of its own.
    return False


def _begin_stop(step: Step) -> bool:
    workspace = step.workspace
    reason = Reason.RESTART if workspace.restart_pending else Reason(workspace.reason)
    return transition(workspace, State.STOPPING, now=timezone.now(), reason=reason, upstream={})


def _stop_run(step: Step) -> bool:
    workspace = step.workspace
    step.runtime.stop(workspace.slug, grace=settings.ENVIRONMENT.stop_grace)
    look_again(workspace, step.decision.look_again_at)
    return False


def _destroy_run(step: Step) -> bool:
    workspace = step.workspace
    step.runtime.destroy_run(workspace.slug)
    return True


def _mark_stopped(step: Step) -> bool:
    workspace = step.workspace
    now = timezone.now()
    # What comes next (a restart, the trash, a copy's end) must be found by the sweep even if this worker ends here.
    next_look = None if workspace.desired == Desired.STOPPED.value and not workspace.copy_phase else now
    return transition(
        workspace,
        State.STOPPED,
        now=now,
        reason=Reason(workspace.reason),
        text="It has ended after all." if workspace.state == State.FAILED.value else "",
        stopped_at=now,
        ports=[],
        failure={},
        look_again_at=next_look,
    )


def _fail(step: Step) -> bool:
    workspace, code = step.workspace, step.decision.reason
    text, next_step, responsible = failure_of(code)
    said = _said_by(workspace, code)
    failure = {
        "code": (said and said.code) or code,
        "text": (said and said.message) or text,
        "next_step": (said and said.next_step) or next_step,
    }
    return fail(workspace, {**failure, "responsible": responsible})


def _said_by(workspace: Workspace, code: str) -> Condition | None:
    """The step that knows more of a failure: what the agent said, or what the runtime said while it was waited for."""
    rows = conditions_of(workspace)
    if code == "content_failed":
        return next((row for row in rows if row.type == ConditionType.CONTENT and (row.code or row.message)), None)
    if code == "start_timeout":
        waited_for = (row for row in rows if row.type in RUNTIME_CONDITIONS and row.status not in OVER and row.code)
        return next(waited_for, None)
    return next((row for row in rows if row.code == code), None)


def _begin_delete(step: Step) -> bool:
    workspace = step.workspace
    return transition(workspace, State.DELETING, now=timezone.now(), reason=Reason.DELETED)


def _mark_deleted(step: Step) -> bool:
    workspace = step.workspace
    now = timezone.now()
    purge_at = now + timedelta(days=settings.ENVIRONMENT.trash_days)
    return transition(
        workspace,
        State.DELETED,
        now=now,
        reason=Reason.DELETED,
        deleted_at=now,
        purge_at=purge_at,
        look_again_at=now if settings.ENVIRONMENT.trash_copies or workspace.copy_phase else purge_at,
        text=f"In the trash until {purge_at:%d %B %Y}.",
    )


def _purge(step: Step) -> bool:
    workspace = step.workspace
    # The row first: a restore that comes in between loses the swap and is told, instead of finding no files.
    now = timezone.now()
    text = "Its time in the trash is over: its files are deleted."
    return transition(workspace, State.PURGED, now=now, reason=Reason.EXPIRED, text=text, look_again_at=now)


def _destroy_volume(step: Step) -> bool:
    workspace = step.workspace
    if not _EMPTYING.acquire(blocking=False):
        look_again(workspace, timezone.now() + TRASH_PAUSE)
        return False
    try:
        # Deleting may take minutes: until then the sweep must not send one worker after the other to wait for it.
        Workspace.objects.filter(pk=workspace.pk).update(look_again_at=timezone.now() + PURGE_PATIENCE)
        step.runtime.destroy_volume(workspace.slug)
    finally:
        _EMPTYING.release()
    with transaction.atomic():
        Workspace.objects.filter(pk=workspace.pk).update(purge_at=None, look_again_at=None)
        conditions.forget(workspace)
        events.forget_details(workspace)
    return False


Act = Callable[[Step], bool]
ACTIONS: dict[Action, Act] = {
    Action.START: _start,
    Action.LAUNCH: _launch,
    Action.RETRY: _retry,
    Action.MARK_RUNNING: _mark_running,
    Action.BEGIN_STOP: _begin_stop,
    Action.STOP_RUN: _stop_run,
    Action.DESTROY_RUN: _destroy_run,
    Action.MARK_STOPPED: _mark_stopped,
    Action.FAIL: _fail,
    Action.BEGIN_DELETE: _begin_delete,
    Action.MARK_DELETED: _mark_deleted,
    Action.PURGE: _purge,
    Action.DESTROY_VOLUME: _destroy_volume,
}
