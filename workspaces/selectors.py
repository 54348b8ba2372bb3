"""Reading workspaces: every query a person's request can make, scoped to what they may see."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AnonymousUser
from django.db.models import F, Q, QuerySet

from accounts.access import owned_by
from accounts.models import User
from kernel.errors import NotFound
from workspaces.models import Condition, Event, Repository, Workspace
from workspaces.states import GONE, ConditionType, State

_ORDER = {kind.value: number for number, kind in enumerate(ConditionType)}


def workspaces_of(user: User | AnonymousUser) -> QuerySet[Workspace]:
    """All that this user may see, newest first, the trash included."""
    return (
        Workspace.objects.filter(owned_by(user))
        .exclude(state=State.PURGED.value)
        .select_related("repository", "owner")
        .order_by("-created_at", "-id")
    )


def live_workspaces_of(user: User | AnonymousUser) -> QuerySet[Workspace]:
    """The same without the trash."""
    return workspaces_of(user).exclude(state__in=[state.value for state in GONE])


def trash_of(user: User | AnonymousUser) -> QuerySet[Workspace]:
    """What can still be restored, the latest deletion first."""
    return workspaces_of(user).filter(state=State.DELETED.value).order_by("-deleted_at")


def matching(rows: QuerySet[Workspace], text: str) -> QuerySet[Workspace]:
    """Those of the rows whose name, repository or branch contains `text`; all for an empty one."""
    if not text:
        return rows
    found = Q(name__icontains=text) | Q(repository__full_name__icontains=text) | Q(branch__icontains=text)
    return rows.filter(found)


def moment(text: str) -> datetime:
    """The time that a cursor holds, in UTC.

    Raises:
        ValueError: it holds none, or one without an offset, or one outside of the years 1 to 9999.
    """
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("no offset")
    try:
        return found.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("out of range") from error


def page_of(rows: QuerySet[Workspace], *, by: str, after: str, limit: int) -> tuple[list[Workspace], str]:
    """Up to `limit` rows after a cursor, the latest `by` (a time) first, and the cursor of what follows, else "".

    What is no cursor counts as none. A cursor names a row's place, not the row, so it stays valid when that row goes.
    """
    rows = rows.order_by(f"-{by}", "-id")
    when, _, key = after.partition("_")
    try:
        place, row_id = moment(when), UUID(key)
    except ValueError:
        pass
    else:
        rows = rows.filter(Q(**{f"{by}__lt": place}) | Q(**{by: place, "id__lt": row_id}))
    found = list(rows[: limit + 1])
    last = found[limit - 1] if len(found) > limit else None
    return found[:limit], f"{getattr(last, by).isoformat()}_{last.pk}" if last is not None else ""


def workspace_of(user: User | AnonymousUser, key: UUID | str) -> Workspace:
    """One workspace by id or slug.

    Raises:
        NotFound: not there, or not this user's.
    """
    by_id = isinstance(key, UUID)
    found = workspaces_of(user).filter(**({"pk": key} if by_id else {"slug": key})).first()
    if found is None:
        raise no_workspace()
    return found


def no_workspace() -> NotFound:
    """The same for what is not there and what is somebody else's, so that nobody can tell them apart."""
    return NotFound(
        "workspace_not_found",
        "There is no such workspace, or it is not yours.",
        "Check the address, or list your workspaces.",
    )


def conditions_of(workspace: Workspace) -> list[Condition]:
    """The steps of the present run's start, in the order in which they are drawn."""
    rows = Condition.objects.filter(workspace=workspace, run=workspace.run)
    return sorted(rows, key=lambda row: _ORDER[row.type])


def conditions_of_all(workspaces: Sequence[Workspace]) -> dict[UUID, list[Condition]]:
    """The same for many, in one query."""
    found: dict[UUID, list[Condition]] = {workspace.pk: [] for workspace in workspaces}
    for row in Condition.objects.filter(workspace__in=found, run=F("workspace__run")):
        found[row.workspace_id].append(row)
    for rows in found.values():
        rows.sort(key=lambda row: _ORDER[row.type])
    return found


def events_of(workspace: Workspace, *, after: int = 0, limit: int = 500) -> list[Event]:
    """Up to `limit` entries of the history with ids greater than `after`, oldest first."""
    return list(Event.objects.filter(workspace=workspace, id__gt=after).select_related("actor")[:limit])


def latest_events_of(workspace: Workspace, *, limit: int = 50) -> list[Event]:
    """The newest entries of the history, newest first."""
    return list(Event.objects.filter(workspace=workspace).select_related("actor").order_by("-id")[:limit])


def recent_repositories(user: User, *, query: str = "", limit: int = 8) -> list[Repository]:
    """Repositories that this user has or had workspaces of, most recently used first."""
    found = Repository.objects.filter(workspaces__in=Workspace.objects.filter(owned_by(user)))
    if query:
        found = found.filter(full_name__icontains=query)
    return list(found.order_by("-fetched_at").distinct()[:limit])


def due(*, now: datetime, limit: int = 1000) -> list[UUID]:
    """Workspaces that the operator should have looked at by now."""
    rows = Workspace.objects.filter(look_again_at__lte=now).order_by("look_again_at")
    return list(rows.values_list("pk", flat=True)[:limit])


def log_lines(raw: bytes) -> list[dict[str, Any]]:
    """What an agent wrote, line by line; a line that is not the agent's (a crash, say) is kept as plain text."""
    lines = raw.decode("utf-8", "replace").split("\n")
    return [_log_line(line) for line in lines if line.strip()]


def _log_line(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
        entry = {"source": "agent", "level": "error", "text": line}
    time = entry.get("t")
    return {
        "time": _plain(time) if isinstance(time, str) else None,
        "source": _plain(entry.get("source", "agent")),
        "level": _plain(entry.get("level", "info")),
        "text": _plain(entry["text"]),
    }


def _plain(text: Any) -> str:
    """As text that can be encoded: JSON may hold halves of characters."""
    return str(text).encode("utf-8", "replace").decode()
