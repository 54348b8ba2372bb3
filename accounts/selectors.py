"""Reading accounts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from django.db.models import Count, OuterRef, Q, QuerySet, Subquery

from accounts import access
from accounts.models import ApiToken, AuditEntry, Membership, Team, User
from kernel import crypto
from kernel.errors import NotFound


def active_user(user_id: int | str) -> User | None:
    """The user with this id, unless disabled."""
    return User.objects.filter(pk=user_id, is_active=True).first()


def user_named(name: str) -> User:
    """An active user by name or by address.

    Raises:
        NotFound: there is none.
    """
    found = User.objects.filter(Q(username=name) | Q(email__iexact=name), is_active=True).order_by("pk").first()
    if found is None:
        raise NotFound("user_not_found", f"Nobody here is called {name[:100]!r}.", "Check the name.", field="user")
    return found


def valid_token(secret: str, *, now: datetime) -> ApiToken | None:
    """The token row for a bearer secret: known, not revoked, not expired, of an active user."""
    if not crypto.looks_like_token(secret, ApiToken.PREFIX):
        return None
    return (
        ApiToken.objects.select_related("user")
        .filter(digest=crypto.digest(secret), revoked_at=None, expires_at__gt=now, user__is_active=True)
        .first()
    )


def tokens_of(user: User) -> QuerySet[ApiToken]:
    """Somebody's tokens, the newest first; those that have ended too, until they are forgotten."""
    return ApiToken.objects.filter(user=user).select_related("user").order_by("-created_at", "-pk")


def token_of(user: User, token_id: int) -> ApiToken:
    """One of them.

    Raises:
        NotFound: not there, or somebody else's.
    """
    found = tokens_of(user).filter(pk=token_id).first()
    if found is None:
        raise NotFound("token_not_found", "There is no such token, or it is not yours.", "List your tokens.")
    return found


def teams_of(user: access.Person) -> QuerySet[Team]:
    """The teams that this user may see, with the number of `people` and their own role (`mine`), in one query."""
    mine = Membership.objects.filter(team=OuterRef("pk"), user=user.pk).values("role")
    return Team.objects.filter(access.teams_of(user)).annotate(
        people=Count("memberships", distinct=True), mine=Subquery(mine)
    )


def team_of(user: access.Person, slug: str) -> Team:
    """One of them.

    Raises:
        NotFound: not there, or not to be seen by this user.
    """
    found = teams_of(user).filter(slug=slug).first()
    if found is None:
        raise NotFound("team_not_found", "There is no such team, or you are not in it.", "List your teams.")
    return found


def members_of(team: Team) -> QuerySet[Membership]:
    """Who is in a team, by name."""
    return team.memberships.select_related("user").order_by("user__username")


def sealed_after(sequence: int) -> Iterator[AuditEntry]:
    """Sealed entries of the audit log behind this number, the oldest first."""
    return AuditEntry.objects.filter(sequence__gt=sequence).order_by("sequence").iterator(500)


def is_sealed(sequence: str, seal: str) -> bool:
    """Whether the entry with this number has this seal."""
    return sequence.isdecimal() and AuditEntry.objects.filter(sequence=int(sequence), seal=seal).exists()
