"""What the agents tell: steps, git, ports, activity. A report that says nothing new writes nothing."""

from __future__ import annotations

import hmac
import re
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import redis as redis_library
import structlog
from django.conf import settings

from kernel import jobs, redis
from kernel.errors import Conflict, Unauthenticated
from workspaces.models import Event, Workspace
from workspaces.services import conditions, events
from workspaces.states import AGENT_CONDITIONS, ConditionStatus, ConditionType, EventKind, State

log = structlog.get_logger(__name__)
REPORT_INTERVAL = 15
_TOKEN = re.compile(r"slr_(?P<id>[0-9a-f]{32})\.(?P<run>[0-9]{1,10})\.(?P<proof>[0-9a-f]{64})")


def run_token(workspace_id: UUID, run: int) -> str:
    """The token of one run of a workspace. It follows from the platform's secret, so that nothing need be stored."""
    return f"slr_{workspace_id.hex}.{run}.{_proof(workspace_id, run)}"


def _proof(workspace_id: UUID, run: int) -> str:
    message = f"run-token:{workspace_id.hex}:{run}"
    return hmac.new(settings.SECRET_KEY.encode(), message.encode(), "sha256").hexdigest()


def workspace_of_run(token: str) -> Workspace:
    """The workspace that a run's token speaks for.

    Raises:
        Unauthenticated: it is not a token of ours, or its workspace is gone.
        Conflict: it is, but a later run has taken over.
    """
    found = _TOKEN.fullmatch(token)
    workspace = None
    if found is not None:
        workspace_id, run = UUID(found["id"]), int(found["run"])
        if hmac.compare_digest(_proof(workspace_id, run), found["proof"]):
            workspace = Workspace.objects.select_related("repository").filter(pk=workspace_id).first()
            if workspace is not None and workspace.run != run:
                raise Conflict("run_superseded", "A later run of this workspace has taken over.")
    if workspace is None:
        raise Unauthenticated("run_unknown", "This token is not valid for this run.")
    return workspace


def apply(workspace: Workspace, report: dict[str, Any], *, now: datetime) -> None:
    """Take in one report (validated by the internal API). Saying it twice changes nothing."""
    progressed = False
    for condition in report["conditions"]:
        progressed |= _condition(workspace, condition, now)
    changes = {
        name: value
        for name, value in (("git", report["git"] or workspace.git), ("ports", sorted(report["ports"])))
        if getattr(workspace, name) != value
    }
    if progressed and workspace.state == State.STARTING.value:
        changes["progress_at"] = now
    if changes:
        Workspace.objects.filter(pk=workspace.pk, run=workspace.run).update(**changes)
        events.announce(workspace)
    for notice in report["notices"]:
        _notice(workspace, notice)
    _activity(workspace, report["activity"], now)
    if progressed and workspace.state == State.STARTING.value:
        jobs.enqueue("workspaces.reconcile", str(workspace.pk))


def _condition(workspace: Workspace, said: dict[str, Any], now: datetime) -> bool:
    kind = ConditionType(said["type"])
    if kind not in AGENT_CONDITIONS:
        return False

    def ago(seconds: float | None) -> datetime | None:
        return None if seconds is None else now - timedelta(seconds=seconds)

    return conditions.put(
        workspace,
        kind,
        ConditionStatus(said["status"]),
        now=now,
        code=said["code"],
        message=said["message"],
        next_step=said["next_step"],
        progress=said["progress"],
        started_at=ago(said["started_ago"]),
        finished_at=ago(said["finished_ago"]),
    )


def _notice(workspace: Workspace, notice: dict[str, str]) -> None:
    mine = Event.objects.filter(workspace=workspace, kind=EventKind.NOTICE.value)
    if not mine.filter(data__id=notice["id"]).exists():
        events.record(
            workspace, EventKind.NOTICE, text=notice["message"], data={"id": notice["id"], "code": notice["code"]}
        )


def _activity(workspace: Workspace, signals: dict[str, float | None], now: datetime) -> None:
    """Keep when somebody or something last worked in it, in Redis; a tick brings it to the database in bulk."""
    ages = [age for age in signals.values() if age is not None]
    if not ages:
        return
    try:
        redis.client().zadd(redis.ACTIVITY, {str(workspace.pk): now.timestamp() - min(ages)}, gt=True)
    except redis_library.RedisError as error:
        log.warning("activity_lost", workspace=str(workspace.pk), error=type(error).__name__)
