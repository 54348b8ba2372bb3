"""The steps of a start, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import transaction

from workspaces.models import Condition, Workspace
from workspaces.runtime.port import Step
from workspaces.services import events
from workspaces.states import (
    CALLED_OFF,
    OVER,
    ConditionStatus,
    ConditionType,
    EventKind,
    State,
)

SAID = ("status", "code", "message", "next_step", "progress")


def of_run(workspace: Workspace) -> dict[str, Condition]:
    """The steps of the workspace's present run, by type, in one query."""
    return {row.type: row for row in Condition.objects.filter(workspace=workspace, run=workspace.run)}


def differs(row: Condition | None, said: dict[str, Any]) -> bool:
    """Whether saying this of a step would change its row."""
    return row is None or any(getattr(row, name) != value for name, value in said.items())


def put(  # noqa: PLR0913 - The columns of the row, by name.
    workspace: Workspace,
    kind: ConditionType,
    status: ConditionStatus,
    *,
    now: datetime,
    code: str = "",
    message: str = "",
    next_step: str = "",
    progress: float | None = None,
    started_at: datetime | None = None,
    finished_at: datetime | None = None,
    in_history: bool = True,
) -> bool:
    """Make the row of this step, of the workspace's present run, say this. True when that changed something.

    Times that are not given follow from the status; a start time once known is kept. A change of status goes into the
    history, unless `in_history` is false.
    """
    row = Condition.objects.filter(workspace=workspace, run=workspace.run, type=kind.value).first()
    values: dict[str, Any] = {
        "status": status.value,
        "code": code,
        "message": message,
        "next_step": next_step,
        "progress": progress,
    }
    if not differs(row, values):
        return False
    values["started_at"] = (
        (row and row.started_at) or started_at or (None if status is ConditionStatus.WAITING else now)
    )
    values["finished_at"] = (finished_at or now) if status in OVER else None
    # One statement, however many write it at once: each start has some ten of these.
    with transaction.atomic(savepoint=False):
        Condition.objects.bulk_create(
            [Condition(workspace=workspace, run=workspace.run, type=kind.value, **values)],
            update_conflicts=True,
            unique_fields=["workspace", "run", "type"],
            update_fields=list(values),
        )
        if in_history and (row is None or row.status != status.value):
            events.record(
                workspace,
                EventKind.CONDITION,
                source=kind.value,
                target=status.value,
                text=message,
                data={"code": code},
            )
        else:
            events.announce(workspace)
    return True


def take_in(workspace: Workspace, steps: Sequence[Step], *, now: datetime) -> bool:
    """Make the rows of the present run say what its runtime tells of the start. True when a step got further.

    A start that is over is left as it ended: the row of the workspace is locked while this looks.
    """
    known = of_run(workspace)
    begun = [step for step in steps if step.type in known or step.status != ConditionStatus.WAITING.value]
    news = [step for step in begun if differs(known.get(step.type), _said_by(step))]
    if not news:
        return False
    with transaction.atomic():
        rows = Workspace.objects.select_for_update(no_key=True).filter(
            pk=workspace.pk, run=workspace.run, state=State.STARTING.value
        )
        if not rows.exists():
            return False
        for step in news:
            put(
                workspace,
                ConditionType(step.type),
                ConditionStatus(step.status),
                now=now,
                started_at=step.started_at,
                finished_at=step.finished_at,
                in_history=step.status in OVER,
                **_said_by(step, "code", "message", "next_step"),
            )
        further = any(step.type not in known or known[step.type].status != step.status for step in news)
        if further:
            rows.update(progress_at=now)
            workspace.progress_at = now
    return further


def _said_by(step: Step, *names: str) -> dict[str, Any]:
    return {name: getattr(step, name) for name in names or ("status", "code", "message", "next_step")}


def call_off(workspace: Workspace, *, now: datetime) -> None:
    """Close the steps of the present run that are under way: the start that they belong to is over.

    The state's entry in the history tells it, so they get none of their own.
    """
    rows = Condition.objects.filter(workspace=workspace, run=workspace.run, status=ConditionStatus.RUNNING.value)
    rows.update(
        status=ConditionStatus.FAILED.value,
        code=CALLED_OFF,
        message="Called off before it was done",
        next_step="",
        progress=None,
        finished_at=now,
    )


def forget_older(workspace: Workspace) -> None:
    """Delete the steps of earlier runs, which nobody looks at: their starts are in the history."""
    Condition.objects.filter(workspace=workspace, run__lt=workspace.run).delete()


def forget(workspace: Workspace) -> None:
    """Delete all steps of a workspace that is gone."""
    Condition.objects.filter(workspace=workspace).delete()
