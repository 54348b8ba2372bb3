"""What the agents tell: steps, git, ports, activity. A report that says nothing new writes nothing."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from typing import Any

import redis as redis_library
import structlog
from django.db import transaction

from kernel import jobs, redis
from kernel.errors import Conflict, Unauthenticated
from workspaces.models import Event, Workspace
from workspaces.services import conditions, events
from workspaces.services.run_secrets import run_of
from workspaces.states import AGENT_CONDITIONS, OVER, WITH_RUN, ConditionStatus, ConditionType, EventKind, State

log = structlog.get_logger(__name__)
REPORT_INTERVAL = 15
# Each change of progress is a write, and on SQLite all of the platform waits for one writer.
PROGRESS_PAUSE = timedelta(seconds=1)
# What one run may write into the history: code in a workspace can send reports of its own making.
MOST_ENTRIES = 200
_AWAITED = frozenset({ConditionType.CONTENT.value, ConditionType.IDE.value})
_TOLD = (EventKind.CONDITION.value, EventKind.NOTICE.value)


def workspace_of_run(token: str) -> Workspace:
    """The workspace that a run's token speaks for.

    Raises:
        Unauthenticated: it is not a token of ours, or its workspace is gone.
        Conflict: it is, but that run is over or a later one has taken its place.
    """
    found = run_of(token)
    workspace = None
    if found is not None:
        workspace_id, run = found
        workspace = Workspace.objects.select_related("repository").filter(pk=workspace_id).first()
        if workspace is not None and (workspace.run != run or workspace.state not in WITH_RUN):
            raise Conflict("run_superseded", "This run of the workspace is over.")
    if workspace is None:
        raise Unauthenticated("run_unknown", "This token is not valid for this run.")
    return workspace


@dataclasses.dataclass(frozen=True, slots=True)
class _News:
    """What of a report is not in the database yet."""

    steps: list[dict[str, Any]]
    changes: dict[str, Any]
    notices: list[dict[str, str]]

    def __bool__(self) -> bool:
        return bool(self.steps or self.changes or self.notices)


def apply(workspace: Workspace, report: dict[str, Any], *, now: datetime) -> None:
    """Take in one report (validated by the internal API). Saying it twice changes nothing."""
    if _news(workspace, report, now):
        with transaction.atomic():
            # Looked at again under the row's lock, which each change of state takes as well: what was said of a start
            # must not come after its end.
            present = _present(workspace)
            news = _news(present, report, now) if present is not None else None
            if present is not None and news:
                _write(present, news, now)
    _activity(workspace, report["activity"], now)


def _present(workspace: Workspace) -> Workspace | None:
    """The workspace as it is now, locked; None when that run is over."""
    rows = Workspace.objects.select_for_update(no_key=True).filter(pk=workspace.pk, run=workspace.run)
    return rows.filter(state__in=WITH_RUN).first()


def _news(workspace: Workspace, report: dict[str, Any], now: datetime) -> _News:
    changes = {"git": report["git"] or workspace.git, "ports": sorted(report["ports"])}
    return _News(
        steps=_steps(workspace, report["conditions"], now),
        changes={name: value for name, value in changes.items() if getattr(workspace, name) != value},
        notices=_untold(workspace, report["notices"]),
    )


def _steps(workspace: Workspace, said: list[dict[str, Any]], now: datetime) -> list[dict[str, Any]]:
    """The steps, of those that are an agent's to tell, that stand otherwise in the database.

    How far one is counts only a while after the last news: the next report tells it too.
    """
    soon = now - workspace.progress_at < PROGRESS_PAUSE
    known = conditions.of_run(workspace)
    # A start that is being ended has no step under way any more, whatever its agent still works on.
    tellable = OVER if workspace.state == State.STOPPING.value else frozenset(ConditionStatus)
    return [
        step
        for step in said
        if step["type"] in AGENT_CONDITIONS
        and step["status"] in tellable
        and conditions.differs(
            known.get(step["type"]), {name: step[name] for name in conditions.SAID if not (soon and name == "progress")}
        )
    ]


def _write(workspace: Workspace, news: _News, now: datetime) -> None:
    """All of a report in one transaction: each commit costs a start a few milliseconds."""

    def ago(seconds: float | None) -> datetime | None:
        return None if seconds is None else now - timedelta(seconds=seconds)

    told = Event.objects.filter(workspace=workspace, kind__in=_TOLD, created_at__gte=workspace.wanted_at).count()
    room = max(0, MOST_ENTRIES - told)
    for step in news.steps:
        conditions.put(
            workspace,
            ConditionType(step["type"]),
            ConditionStatus(step["status"]),
            now=now,
            code=step["code"],
            message=step["message"],
            next_step=step["next_step"],
            progress=step["progress"],
            started_at=ago(step["started_ago"]),
            finished_at=ago(step["finished_ago"]),
            in_history=room > 0,
        )
    # The end of a stop is measured from when that began, whatever is told meanwhile.
    progressed = bool(news.steps) and workspace.state != State.STOPPING.value
    changes = {**news.changes, "progress_at": now} if progressed else news.changes
    if changes:
        Workspace.objects.filter(pk=workspace.pk).update(**changes)
        events.announce(workspace)
    for notice in news.notices[:room]:
        data = {"id": notice["id"], "code": notice["code"]}
        events.record(workspace, EventKind.NOTICE, text=notice["message"], data=data)
    if workspace.state == State.STARTING.value and any(_decides(step) for step in news.steps):
        jobs.enqueue("workspaces.reconcile", str(workspace.pk), urgent=True)


def _decides(step: dict[str, Any]) -> bool:
    """Whether the operator may have something to do about it: somebody waits for the editor, or waits in vain."""
    return step["type"] in _AWAITED and step["status"] in OVER


def _untold(workspace: Workspace, notices: list[dict[str, str]]) -> list[dict[str, str]]:
    """The notices that the history does not have yet: agents repeat them until they know that they arrived."""
    if not notices:
        return []
    told = Event.objects.filter(workspace=workspace, kind=EventKind.NOTICE.value).values_list("data__id", flat=True)
    known = set(told.filter(data__id__in=[notice["id"] for notice in notices]))
    return [notice for notice in notices if notice["id"] not in known]


def _activity(workspace: Workspace, signals: dict[str, float | None], now: datetime) -> None:
    """Keep when somebody or something last worked in it, in Redis; a tick brings it to the database in bulk."""
    ages = [age for age in signals.values() if age is not None]
    if not ages:
        return
    try:
        redis.client().zadd(redis.ACTIVITY, {str(workspace.pk): now.timestamp() - min(ages)}, gt=True)
    except redis_library.RedisError as error:
        log.warning("activity_lost", workspace=str(workspace.pk), error=type(error).__name__)
