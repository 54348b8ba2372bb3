"""Teams and who is in them.

Roles are compared here, under the lock under which they change; a team always has an owner. A change of somebody's role
makes the gateways ask again about all that they have open.
"""

from __future__ import annotations

import re

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from accounts import access
from accounts.models import AuditClass, Membership, Team, TeamRole, User
from accounts.services import audit
from accounts.services.gateways import revoke_user
from kernel.errors import Conflict, Forbidden, Invalid, NotFound, TooMany

SLUG = re.compile(r"[a-z][a-z0-9-]{0,38}[a-z0-9]")
LONGEST_NAME = 100
MOST_MEMBERS = 5_000


def create_team(*, slug: str, name: str, actor: User) -> Team:
    """Make a team of which `actor` is the owner.

    Raises:
        Invalid: the slug or the name cannot be used.
        Conflict: there is such a team.
    """
    name = _tidy_name(name or slug)
    if not SLUG.fullmatch(slug):
        raise Invalid(
            "slug_invalid",
            "A team's short name has 2 to 40 small letters, digits and hyphens, and begins with a letter.",
            "Choose another one.",
            field="slug",
        )
    try:
        with transaction.atomic():
            team = Team.objects.create(slug=slug, name=name)
            Membership.objects.create(team=team, user=actor, role=TeamRole.OWNER)
            _note("team.create", team, actor, {"name": ("", name)})
    except IntegrityError as error:
        raise Conflict("team_exists", f"There is a team {slug!r} already.", "Choose another name.") from error
    return team


def rename_team(team: Team, *, name: str, actor: User) -> Team:
    """Call it something else; its slug stays.

    Raises:
        Invalid: the name cannot be used.
    """
    name = _tidy_name(name)
    with transaction.atomic():
        _note("team.rename", team, actor, {"name": (team.name, name)})
        Team.objects.filter(pk=team.pk).update(name=name)
    team.name = name
    return team


def delete_team(team: Team, *, actor: User) -> None:
    """Delete a team that nothing belongs to any more. Its people lose what they saw through it.

    Raises:
        Conflict: it has workspaces, those in the trash included.
    """
    with transaction.atomic():
        people = list(User.objects.filter(memberships__team=team))
        _note("team.delete", team, actor, {})
        try:
            with transaction.atomic():
                team.delete()
        except ProtectedError as error:
            count = len(error.protected_objects)
            raise Conflict(
                "team_in_use",
                f"The team has {count} workspace{'s' if count > 1 else ''}, those in the trash included.",
                "Hand them over to their owners or delete them for good first.",
            ) from error
        _tell_gateways(people)


def set_role(team: Team, user: User, role: TeamRole | None, *, actor: User | None, from_claims: bool = False) -> None:
    """Give somebody a role in a team, another one, or none.

    Args:
        team: the team.
        user: whose role it is; they may leave by themselves.
        role: None takes them out of the team.
        actor: who wants it; None for the identity provider's word.
        from_claims: the identity provider gave this role, and may take it back.

    Raises:
        Conflict: the team would be without an owner.
        Forbidden: the actor's role does not allow it.
        NotFound: they are no member, and there is nothing to take.
        TooMany: the team is full.
    """
    with transaction.atomic():
        # One change of a team's people after the other: two owners who leave at once must not both find the other one
        # still there, and who changes a role must still have theirs.
        Team.objects.select_for_update().get(pk=team.pk)
        found = Membership.objects.filter(team=team, user=user).first()
        before = TeamRole(found.role) if found else None
        _check_change(team, user, before=before, after=role, actor=actor)
        if role is None:
            Membership.objects.filter(team=team, user=user).delete()
        else:
            Membership.objects.update_or_create(
                team=team, user=user, defaults={"role": role, "from_claims": from_claims}
            )
        if before != role:
            _note("team.role", team, actor, {user.username: (before, role)}, AuditClass.SECURITY)
            _tell_gateways([user])


def _check_change(
    team: Team, user: User, *, before: TeamRole | None, after: TeamRole | None, actor: User | None
) -> None:
    own = actor == user
    if actor is not None and not access.may_set_role(access.role_in(actor, team), before=before, after=after, own=own):
        raise Forbidden("role_insufficient", "Your role in this team does not allow that.", "Ask one of its owners.")
    if before is None and after is None:
        raise NotFound("member_not_found", "They are not in this team.", "Look at the list of its members.")
    owners = Membership.objects.filter(team=team, role=TeamRole.OWNER)
    if before is TeamRole.OWNER and after is not TeamRole.OWNER and not owners.exclude(user=user).exists():
        raise Conflict(
            "last_owner",
            "A team must have an owner, and this is the last one.",
            "Make somebody else an owner first, or delete the team.",
        )
    if before is None and Membership.objects.filter(team=team).count() >= MOST_MEMBERS:
        raise TooMany("team_full", f"A team has at most {MOST_MEMBERS} people.", "Make another one.", temporary=False)


def _tell_gateways(people: list[User]) -> None:
    def tell() -> None:
        for user in people:
            revoke_user(user)

    transaction.on_commit(tell)


def _note(
    action: str,
    team: Team,
    actor: User | None,
    difference: dict[str, tuple[str | None, str | None]],
    kind: AuditClass = AuditClass.CHANGE,
) -> None:
    subject = audit.Subject("team", team.pk, team.slug, team.pk)
    audit.record(action, subject, actor=actor, kind=kind, difference=difference)


def _tidy_name(name: str) -> str:
    tidy = " ".join(name.split())
    if not 1 <= len(tidy) <= LONGEST_NAME or not tidy.isprintable():
        raise Invalid(
            "name_invalid",
            f"A team's name has 1 to {LONGEST_NAME} printable characters.",
            "Choose another name.",
            field="name",
        )
    return tidy
