"""Reading workspaces: every query a person's request can make, scoped to what they may see."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AnonymousUser
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from accounts import access
from accounts.access import Ability, owned_by
from accounts.models import User
from kernel.errors import Forbidden, NotFound
from workspaces.models import Condition, Event, Grant, Repository, Workspace
from workspaces.states import GONE, ConditionType, State

_TO_DO = {
    Ability.VIEW: "look at",
    Ability.OPERATE: "run",
    Ability.OPEN: "open",
    Ability.CHANGE: "change",
    Ability.SHARE: "share",
}
_ORDER = {kind.value: number for number, kind in enumerate(ConditionType)}


def workspaces_of(user: User | AnonymousUser) -> QuerySet[Workspace]:
    """All that this user owns, newest first, the trash included."""
    return (
        Workspace.objects.filter(owned_by(user))
        .exclude(state=State.PURGED.value)
        .select_related("repository", "owner")
        .order_by("-created_at", "-id")
    )


def visible_to(user: User | AnonymousUser) -> QuerySet[Workspace]:
    """All that this user may see, whoever owns it; `abilities_of` says what more they may."""
    now, grants = timezone.now(), Grant.objects.all()
    return (
        Workspace.objects.filter(access.permits(user, Ability.VIEW, grants=grants, now=now))
        .exclude(state=State.PURGED.value)
        .select_related("repository", "owner", "team")
        .annotate(**access.abilities(user, grants=grants, now=now))
        .order_by("-created_at", "-id")
    )


class ListScope(StrEnum):
    """Whose workspaces a list shows."""

    MINE = "mine"
    SHARED = "shared"
    ALL = "all"


def listed_for(user: User | AnonymousUser, scope: ListScope) -> QuerySet[Workspace]:
    """The caller's own workspaces, those that others share with them, or all that they may see; the trash included."""
    if scope is ListScope.MINE:
        return workspaces_of(user)
    rows = visible_to(user)
    if scope is ListScope.SHARED:
        rows = rows.filter(access.shared_with(user, grants=Grant.objects.all(), now=timezone.now()))
    return rows


def opened_by(user: User | AnonymousUser, slug: str) -> Workspace | None:
    """The workspace of this slug, if this user may be in it."""
    may_open = access.permits(user, Ability.OPEN, grants=Grant.objects.all(), now=timezone.now())
    return Workspace.objects.filter(may_open, slug=slug).exclude(state=State.PURGED.value).first()


def shown_to(user: User | AnonymousUser) -> QuerySet[Workspace]:
    """What somebody's own list shows: their workspaces, and those that others share with them; the trash left out."""
    shared = access.shared_with(user, grants=Grant.objects.all(), now=timezone.now())
    return without_trash(visible_to(user).filter(owned_by(user) | shared))


def abilities_of(workspace: Workspace) -> frozenset[Ability]:
    """What the user may do for whom `visible_to` found this workspace."""
    return frozenset(ability for ability in Ability if getattr(workspace, f"may_{ability}"))


def shown_owner(workspace: Workspace) -> str:
    """Whose it is, for that user; "" for their own."""
    mine: bool = getattr(workspace, access.MINE)
    return "" if mine else workspace.owner.shown_name


def without_trash(rows: QuerySet[Workspace]) -> QuerySet[Workspace]:
    """Those of the rows that are not on their way to being forgotten."""
    return rows.exclude(state__in=[state.value for state in GONE])


def trash_of(user: User | AnonymousUser) -> QuerySet[Workspace]:
    """What can still be restored, the latest deletion first."""
    return visible_to(user).filter(owned_by(user), state=State.DELETED.value).order_by("-deleted_at")


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


def workspace_of(user: User | AnonymousUser, key: UUID | str, *, ability: Ability = Ability.VIEW) -> Workspace:
    """One workspace by id or slug, with which this user may do what `ability` says.

    Raises:
        NotFound: not there, or not to be seen by this user.
        Forbidden: they may see it, and no more than that.
    """
    by_id = isinstance(key, UUID)
    found = visible_to(user).filter(**({"pk": key} if by_id else {"slug": key})).first()
    if found is None:
        raise no_workspace()
    if not getattr(found, f"may_{ability}"):
        raise Forbidden(
            "role_insufficient",
            f"You may see this workspace, but not {_TO_DO[ability]} it.",
            f"Ask its owner, {found.owner.shown_name}, to share it with you.",
        )
    return found


def no_workspace() -> NotFound:
    """The same for what is not there and what is somebody else's, so that nobody can tell them apart."""
    return NotFound(
        "workspace_not_found",
        "There is no such workspace, or it is not yours.",
        "Check the address, or list your workspaces.",
    )


def grants_of(workspace: Workspace) -> QuerySet[Grant]:
    """Who else was let into a workspace, the first one first."""
    return workspace.grants.select_related("user", "team").order_by("pk")


def grant_of(workspace: Workspace, grant_id: int) -> Grant:
    """One of them.

    Raises:
        NotFound: not there.
    """
    found = grants_of(workspace).filter(pk=grant_id).first()
    if found is None:
        raise NotFound("share_not_found", "There is no such share.", "List the workspace's shares.")
    return found


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
