"""Who may touch what: the one place that decides.

A person reaches an object only through a selector that filters by one of these predicates, so that somebody else's
object is simply not there; each predicate is part of the selector's one query.

| who                                   | view | operate | open | change | share |
| ------------------------------------- | ---- | ------- | ---- | ------ | ----- |
| its owner                             | yes  | yes     | yes  | yes    | yes   |
| shared with them, to view             | yes  |         |      |        |       |
| shared with them, to use              | yes  | yes     | yes  |        |       |
| shared with them, to manage           | yes  | yes     | yes  | yes    | yes   |
| owner or admin of its team            | yes  | yes     |      | yes    |       |
| member or viewer of its team          | yes  |         |      |        |       |
| platform admin                        | yes  | yes     |      | yes    |       |
| platform admin who broke the glass    | yes  | yes     | yes  | yes    |       |
| auditor                               | yes  |         |      |        |       |

A workspace holds its owner's credentials, so only an owner, or whom they let manage it, lets somebody *open* it; or a
platform admin who says why. Who may change a workspace may not share it for that: else each could let themselves in.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet, Value

from accounts.models import Membership, PlatformRole, Scope, Team, TeamRole, User

NOBODY = Q(pk__in=[])
MINE = "is_mine"
Person = User | AnonymousUser


class Ability(StrEnum):
    """What can be done with a workspace."""

    VIEW = "view"  # See that it is there, its state and its history.
    OPERATE = "operate"  # Start, stop, restart; read its logs.
    OPEN = "open"  # Be in it: editor, ports, terminal.
    CHANGE = "change"  # Rename, delete, restore; end what is shared.
    SHARE = "share"  # Let others in.


class Level(StrEnum):
    """What an owner shares, each with what is before it."""

    VIEW = "view"
    USE = "use"
    MANAGE = "manage"


LEVELS: dict[Level, frozenset[Ability]] = {
    Level.VIEW: frozenset({Ability.VIEW}),
    Level.USE: frozenset({Ability.VIEW, Ability.OPERATE, Ability.OPEN}),
    Level.MANAGE: frozenset(Ability),
}
_RUNS_THE_HOUSE = frozenset({Ability.VIEW, Ability.OPERATE, Ability.CHANGE})
TEAM_ROLES: dict[TeamRole, frozenset[Ability]] = {
    TeamRole.OWNER: _RUNS_THE_HOUSE,
    TeamRole.ADMIN: _RUNS_THE_HOUSE,
    TeamRole.MEMBER: frozenset({Ability.VIEW}),
    TeamRole.VIEWER: frozenset({Ability.VIEW}),
}
PLATFORM_ROLES: dict[PlatformRole, frozenset[Ability]] = {
    PlatformRole.ADMIN: _RUNS_THE_HOUSE,
    PlatformRole.AUDITOR: frozenset({Ability.VIEW}),
    PlatformRole.MEMBER: frozenset(),
}


def _known(user: Person) -> bool:
    return user.is_authenticated and user.is_active


def owned_by(user: Person) -> Q:
    """The rows, of a model with an `owner`, that are this user's own."""
    return Q(owner=user) if _known(user) else NOBODY


def permits(user: Person, ability: Ability, *, grants: QuerySet[Any], now: datetime) -> Q:
    """The workspaces, or other rows with an `owner` and a `team`, with which this user may do this.

    Args:
        user: who asks.
        ability: what they want to do.
        grants: all rows that say what owners shared and where glass was broken: with `workspace`, `user` or `team`,
            `level`, `emergency` and `expires_at`.
        now: what has expired by then counts no more.
    """
    if not isinstance(user, User) or not _known(user):
        return NOBODY
    if ability in PLATFORM_ROLES[user.platform_role]:
        return Q()
    roles = [role for role, abilities in TEAM_ROLES.items() if ability in abilities]
    return owned_by(user) | Q(team__in=teams_with(user, roles)) | Q(pk__in=_granted(user, ability, grants, now))


def shared_with(user: Person, *, grants: QuerySet[Any], now: datetime) -> Q:
    """The workspaces that others let this user in to, by name or as one of a team."""
    if not isinstance(user, User) or not _known(user):
        return NOBODY
    return Q(pk__in=_granted(user, Ability.VIEW, grants, now))


def _granted(user: User, ability: Ability, grants: QuerySet[Any], now: datetime) -> QuerySet[Any]:
    levels = [level.value for level, abilities in LEVELS.items() if ability in abilities]
    alive = grants.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now), level__in=levels)
    if user.platform_role is not PlatformRole.ADMIN:
        # What somebody was let in for as an admin ends with being one.
        alive = alive.filter(emergency=False)
    return alive.filter(Q(user=user) | Q(team__in=teams_with(user))).values("workspace")


def abilities(user: Person, *, grants: QuerySet[Any], now: datetime) -> dict[str, Any]:
    """`may_view`, `may_operate`, … and `is_mine` for `annotate`: what this user may do with each row of a list, in its
    one query."""
    may = {f"may_{ability}": _as_expression(permits(user, ability, grants=grants, now=now)) for ability in Ability}
    return {**may, MINE: _as_expression(owned_by(user))}


def _as_expression(condition: Q) -> Any:
    return ExpressionWrapper(condition, output_field=BooleanField()) if condition else Value(value=True)


def teams_with(user: User, roles: Iterable[TeamRole] = TeamRole) -> QuerySet[Membership, int]:
    """The ids of the teams in which this user has one of these roles, as a subquery."""
    return Membership.objects.filter(user=user, role__in=list(roles)).values_list("team_id", flat=True)


def teams_of(user: Person) -> Q:
    """The teams that this user may see."""
    if not isinstance(user, User) or not _known(user):
        return NOBODY
    return Q() if user.platform_role is not PlatformRole.MEMBER else Q(pk__in=teams_with(user))


def role_in(user: Person, team: Team) -> TeamRole | None:
    """What somebody may do among the people of a team; a platform admin what an owner may. None: nothing."""
    if not isinstance(user, User) or not _known(user):
        return None
    if user.platform_role is PlatformRole.ADMIN:
        return TeamRole.OWNER
    found = Membership.objects.filter(user=user, team=team).first()
    return TeamRole(found.role) if found else None


def may_set_role(mine: TeamRole | None, *, before: TeamRole | None, after: TeamRole | None, own: bool) -> bool:
    """Whether somebody with the role `mine` may turn the role `before` into `after`; None is no role.

    Everybody may leave. Admins look after everybody but owners, and make none: else each could make themselves one.
    """
    if own and after is None:
        return True
    if mine is TeamRole.OWNER:
        return True
    return mine is TeamRole.ADMIN and TeamRole.OWNER not in (before, after)


def allows(scopes: Iterable[str], *, needed: Scope) -> bool:
    """Whether a token with these scopes may do what needs this one; each scope that writes may read as well."""
    held = set(scopes)
    return needed in held or (needed is Scope.READ and bool(held & set(Scope)))
