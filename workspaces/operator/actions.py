"""The operator's actions: one function per `decide.Action`, each a single step that may be repeated.

An action returns True when the next look should follow at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from kernel import jobs, observe
from workspaces.models import Workspace
from workspaces.operator.decide import MOST_INTERRUPTIONS, REVIEW, Action, Decision
from workspaces.operator.texts import INTERRUPTED, failure_of
from workspaces.runtime.port import Observation, Runtime
from workspaces.selectors import conditions_of
from workspaces.services import conditions
from workspaces.services.runtimes import run_spec
from workspaces.services.transition import transition
from workspaces.states import ConditionStatus, ConditionType, Reason, State

# A look that is due this soon is asked for by a message; later ones are the sweep's.
NUDGE_WITHIN = timedelta(seconds=4)


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
    failure["generation"] = workspace.generation
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
    if not transition(
        workspace, State.STARTING, now=timezone.now(), reason=Reason(workspace.reason), **_fresh_run(workspace)
    ):
        return False
    conditions.put(
        workspace,
        ConditionType.QUEUED,
        ConditionStatus.DONE,
        now=timezone.now(),
        started_at=workspace.wanted_at,
    )
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
    step.runtime.ensure_volume(workspace.slug)
    made = timezone.now()
    conditions.put(workspace, ConditionType.VOLUME, ConditionStatus.DONE, now=made, started_at=begun)
    launched = step.runtime.ensure_run(run_spec(workspace))
    still = Workspace.objects.filter(pk=workspace.pk, state=State.STARTING.value, run=workspace.run).update(
        launched_run=workspace.run, warnings=list(launched.warnings), look_again_at=step.decision.look_again_at
    )
    if not still:
        # Stopped or deleted meanwhile: the next look finds a run that nobody wants, and ends it.
        return True
    conditions.put(workspace, ConditionType.CONTAINER, ConditionStatus.DONE, now=timezone.now(), started_at=made)
    return False


def _retry(step: Step) -> bool:
    workspace = step.workspace
    text, _, _ = failure_of(step.decision.reason)
    healthy = (
        workspace.state == State.RUNNING.value
        and step.decision.reason
        and workspace.interruptions >= MOST_INTERRUPTIONS
    )
    return transition(
        workspace,
        State.STARTING,
        now=timezone.now(),
        reason=Reason.INTERRUPTED,
        text=f"{text} It is being started again." if step.decision.reason == "oom_killed" else INTERRUPTED,
        interruptions=1 if healthy else workspace.interruptions + 1,
        wanted_at=timezone.now(),
        **_fresh_run(workspace),
    )


def _mark_running(step: Step) -> bool:
    workspace = step.workspace
    now = timezone.now()
    done = transition(
        workspace,
        State.RUNNING,
        now=now,
        reason=Reason(workspace.reason),
        upstream=dict(step.seen.upstream),
        warnings=list(step.seen.warnings),
        started_at=now,
        last_activity_at=now,
        look_again_at=now + REVIEW,
    )
    if done:
        observe.START_SECONDS.observe((now - workspace.wanted_at).total_seconds())
    return done


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
    return transition(workspace, State.STOPPED, now=now, reason=Reason(workspace.reason), stopped_at=now, ports=[])


def _fail(step: Step) -> bool:
    workspace = step.workspace
    if step.decision.reason == "content_failed":
        row = next(found for found in conditions_of(workspace) if found.type == ConditionType.CONTENT.value)
        said = {"code": row.code or "content_failed", "message": row.message, "next_step": row.next_step}
        return fail(workspace, {**words(said), "responsible": "user"})
    text, next_step, responsible = failure_of(step.decision.reason)
    said = {"code": step.decision.reason, "message": text, "next_step": next_step}
    return fail(workspace, {**words(said), "responsible": responsible})


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
        look_again_at=purge_at,
        text=f"In the trash until {purge_at:%d %B %Y}.",
    )


def _purge(step: Step) -> bool:
    workspace = step.workspace
    # The row first: a restore that comes in between loses the swap and is told, instead of finding no files.
    now = timezone.now()
    text = "Its time in the trash is over: its files are deleted."
    return transition(workspace, State.PURGED, now=now, reason=Reason.EXPIRED, text=text, look_again_at=now)


def _destroy_volume(step: Step) -> bool:
    step.runtime.destroy_volume(step.workspace.slug)
    Workspace.objects.filter(pk=step.workspace.pk).update(purge_at=None, look_again_at=None)
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
