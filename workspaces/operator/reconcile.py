"""One workspace, brought one or more steps nearer to what its owner wants.

Every step may be interrupted, repeated, or run twice at once: rows change by compare-and-swap, the runtime's
operations are idempotent, and a launch that turns out to be stale is looked at again at once.
"""

from __future__ import annotations

import dataclasses
import random
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from kernel import observe
from kernel.errors import Failure
from workspaces.models import Workspace
from workspaces.operator import actions, copies
from workspaces.operator.actions import PURGE_PATIENCE, Step, adopt, fail, look_again, words
from workspaces.operator.copying import with_copy
from workspaces.operator.decide import NODE_LOST, RUN_REFUSED, Action, Decision, View, decide
from workspaces.runtime.errors import SpecConflict, VolumeMissing
from workspaces.runtime.port import REFUSED, Observation, Pace, Presence, Runtime
from workspaces.selectors import conditions_of
from workspaces.services import conditions, events
from workspaces.states import ConditionStatus, ConditionType, Desired, State

log = structlog.get_logger(__name__)

ACTIONS = actions.ACTIONS | copies.ACTIONS
# What goes wrong in these is the storage's.
_OF_THE_VOLUME = frozenset({Action.FREE_VOLUME, Action.RESTORE_COPY})

# A chain of immediate steps is short; this only bounds a mistake.
MOST_STEPS = 12
UNREACHABLE_PAUSE = timedelta(seconds=3)
LONGEST_PAUSE = timedelta(hours=1)


def reconcile(workspace_id: UUID, runtime: Runtime) -> None:
    """Look, decide and act until there is nothing to do right now."""
    with structlog.contextvars.bound_contextvars(workspace=str(workspace_id)):
        for _ in range(MOST_STEPS):
            if not _step(workspace_id, runtime):
                return


def _step(workspace_id: UUID, runtime: Runtime) -> bool:
    workspace = Workspace.objects.select_related("repository", "owner").filter(pk=workspace_id).first()
    if workspace is None:
        return False
    seen = _observe(workspace, runtime)
    adopt(workspace, seen)
    _tell(workspace, seen)
    view, now = view_of(workspace, seen, runtime.pace), timezone.now()
    decision = with_copy(decide(view, now), view, copies.kept_of(workspace), now)
    observe.RECONCILES.labels(decision.action.value).inc()
    return _act(workspace, seen, decision, runtime)


def _observe(workspace: Workspace, runtime: Runtime) -> Observation:
    if State(workspace.state) is State.PENDING:
        return Observation(Presence.ABSENT)
    try:
        return runtime.observe(workspace.slug)
    except Failure as failure:
        log.warning("observe_failed", failure=failure.code, detail=failure.log_text)
        return Observation(Presence.UNKNOWN, reason=failure.code)


def _tell(workspace: Workspace, seen: Observation) -> None:
    """Let its owner see what the runtime says of a run, beside what follows from it."""
    if workspace.state == State.STARTING.value and seen.run == workspace.run:
        conditions.take_in(workspace, seen.steps, now=timezone.now())
    elif workspace.state == State.RUNNING.value:
        lost = seen.presence is Presence.UNKNOWN and seen.reason == NODE_LOST
        told = [NODE_LOST] if lost else list(seen.warnings) if seen.run == workspace.run else workspace.warnings
        if told != workspace.warnings:
            with transaction.atomic():
                Workspace.objects.filter(pk=workspace.pk, run=workspace.run).update(warnings=told)
                events.announce(workspace)


def view_of(workspace: Workspace, seen: Observation, pace: Pace) -> View:
    """What a decision depends on, gathered."""
    starting = workspace.state == State.STARTING.value
    steps = {row.type: row.status for row in conditions_of(workspace)} if starting else {}
    env = settings.ENVIRONMENT
    # Adding a machine to a cluster takes minutes, in which nothing is wrong with the workspace.
    waits_for_room = steps.get(ConditionType.SCHEDULED.value) == ConditionStatus.RUNNING.value
    return View(
        state=State(workspace.state),
        desired=Desired(workspace.desired),
        generation=workspace.generation,
        failed_generation=workspace.failure.get("generation", 0),
        # What failed before this was kept says by its code that it did not end.
        failed_ending=workspace.failure.get("ending", workspace.failure.get("code") == "stop_timeout"),
        restart_pending=workspace.restart_pending,
        run=workspace.run,
        launched_run=workspace.launched_run,
        interruptions=workspace.interruptions,
        progress_at=workspace.progress_at,
        running_since=workspace.started_at if workspace.state == State.RUNNING.value else None,
        purge_at=workspace.purge_at,
        presence=seen.presence,
        observed_run=seen.run,
        exit_reason=seen.reason or (RUN_REFUSED if seen.exit_code == REFUSED else ""),
        ide_ready=steps.get(ConditionType.IDE.value) == ConditionStatus.DONE.value
        and steps.get(ConditionType.CONTENT.value) == ConditionStatus.DONE.value,
        reachable=bool(seen.upstream),
        content_failed=steps.get(ConditionType.CONTENT.value) == ConditionStatus.FAILED.value,
        start_timeout=timedelta(seconds=env.schedule_timeout if waits_for_room else env.start_timeout),
        stop_timeout=timedelta(seconds=env.stop_timeout),
        # Spread out, so that what began together is not looked at together for ever.
        pace=dataclasses.replace(pace, well=pace.well * random.uniform(0.8, 1)),  # noqa: S311 - Guards nothing.
    )


def _act(workspace: Workspace, seen: Observation, decision: Decision, runtime: Runtime) -> bool:
    """Do it. True when the next look should follow at once."""
    if decision.action in {Action.REST, Action.WAIT}:
        look_again(workspace, decision.look_again_at)
        return False
    try:
        return ACTIONS[decision.action](Step(workspace, seen, decision, runtime))
    except Failure as failure:
        return _on_failure(workspace, decision, failure)


def _on_failure(workspace: Workspace, decision: Decision, failure: Failure) -> bool:
    """The runtime said no. What may pass is tried again until the start's deadline; the rest fails the workspace."""
    log.warning("runtime_failed", action=decision.action.value, failure=failure.code, detail=failure.log_text)
    starting = workspace.state == State.STARTING.value
    late = timezone.now() - workspace.progress_at > timedelta(seconds=settings.ENVIRONMENT.start_timeout)
    # A run that a slower worker left behind is cleared away by the next looks.
    passing = failure.temporary or isinstance(failure, SpecConflict)
    storage = isinstance(failure, VolumeMissing) or decision.action in _OF_THE_VOLUME
    kind = ConditionType.VOLUME if storage else ConditionType.CONTAINER
    if starting and (late or not passing):
        step: dict[str, Any] = {"code": failure.code, "message": failure.user_text, "next_step": failure.next_step}
        conditions.put(workspace, kind, ConditionStatus.FAILED, now=timezone.now(), **step)
        return fail(workspace, {**words(step), "responsible": failure.responsible})
    if starting:
        conditions.put(
            workspace,
            kind,
            ConditionStatus.RUNNING,
            now=timezone.now(),
            code=failure.code,
            message=failure.user_text,
            next_step=failure.next_step,
        )
    look_again(workspace, timezone.now() + _pause_after(workspace, failure))
    return False


def _pause_after(workspace: Workspace, failure: Failure) -> timedelta:
    """How long to leave alone what failed: what does not pass by itself is tried less often the longer it lasts."""
    pause = UNREACHABLE_PAUSE
    if not failure.temporary:
        pause = min(max(pause, (timezone.now() - workspace.progress_at) / 4), LONGEST_PAUSE)
    # Each try at a volume may read all of it.
    return max(pause, PURGE_PATIENCE) if workspace.state == State.PURGED.value else pause
