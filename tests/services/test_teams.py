"""Teams and their people: what no role can break, and what happens at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from django.utils import timezone

from accounts.models import AuditEntry, Membership, Team, TeamRole, User
from accounts.services import teams
from kernel.errors import Conflict, Forbidden, Invalid, NotFound
from tests.services.stage import together
from tests.support.revocations import Listener
from workspaces.models import Workspace
from workspaces.services.transition import transition
from workspaces.states import Reason, State

Factory = Callable[..., Workspace]
Change = tuple[TeamRole | None, bool]


@pytest.fixture
def team(owner: User) -> Team:
    return teams.create_team(slug="rockets", name="Rockets", actor=owner)


def roles(team: Team) -> dict[str, str]:
    return {row.user.username: row.role for row in team.memberships.select_related("user")}


def test_who_makes_a_team_owns_it(owner: User, team: Team) -> None:
    assert roles(team) == {"owner": "owner"}
    with pytest.raises(Conflict, match="rockets"):
        teams.create_team(slug="rockets", name="Other", actor=owner)


@pytest.mark.parametrize("slug", ["", "a", "-a", "A1", "1a", "a" * 41, "a_b", "ab-", "ä-b"])
def test_a_slug_must_be_one(owner: User, slug: str) -> None:
    with pytest.raises(Invalid):
        teams.create_team(slug=slug, name="x", actor=owner)
    assert not Team.objects.exists()


@pytest.mark.parametrize("role", [TeamRole.ADMIN, TeamRole.VIEWER, None])
def test_the_last_owner_stays(owner: User, team: Team, role: TeamRole | None) -> None:
    with pytest.raises(Conflict, match="must have an owner"):
        teams.set_role(team, owner, role, actor=owner)
    assert roles(team) == {"owner": "owner"}


@pytest.mark.django_db(transaction=True)
def test_two_owners_cannot_leave_at_once(owner: User, member: User, team: Team) -> None:
    teams.set_role(team, member, TeamRole.OWNER, actor=owner)
    results = together([partial(teams.set_role, team, user, None, actor=user) for user in (owner, member)])
    assert sorted(type(result).__name__ for result in results) == ["Conflict", "NoneType"]
    assert list(roles(team).values()) == ["owner"]


@pytest.mark.parametrize(
    ("mine", "before", "change"),
    [
        (TeamRole.OWNER, None, (TeamRole.OWNER, True)),
        (TeamRole.OWNER, TeamRole.ADMIN, (None, True)),
        (TeamRole.ADMIN, None, (TeamRole.ADMIN, True)),
        (TeamRole.ADMIN, TeamRole.MEMBER, (TeamRole.VIEWER, True)),
        (TeamRole.ADMIN, None, (TeamRole.OWNER, False)),
        (TeamRole.ADMIN, TeamRole.OWNER, (None, False)),
        (TeamRole.ADMIN, TeamRole.OWNER, (TeamRole.MEMBER, False)),
        (TeamRole.MEMBER, None, (TeamRole.VIEWER, False)),
        (TeamRole.VIEWER, TeamRole.MEMBER, (None, False)),
        (None, None, (TeamRole.MEMBER, False)),
    ],
)
def test_who_may_change_whose_role(
    member: User, outsider: User, team: Team, mine: TeamRole | None, before: TeamRole | None, change: Change
) -> None:
    after, allowed = change
    for user, role in ((member, mine), (outsider, before)):
        if role:
            Membership.objects.create(team=team, user=user, role=role)
    if allowed:
        teams.set_role(team, outsider, after, actor=member)
    else:
        with pytest.raises(Forbidden):
            teams.set_role(team, outsider, after, actor=member)
    assert roles(team).get("outsider") == (after if allowed else before)


def test_everybody_may_leave_and_nobody_twice(owner: User, member: User, team: Team) -> None:
    teams.set_role(team, member, TeamRole.VIEWER, actor=owner)
    teams.set_role(team, member, None, actor=member)
    assert roles(team) == {"owner": "owner"}
    with pytest.raises(NotFound):
        teams.set_role(team, member, None, actor=member)


def test_an_admin_of_the_platform_needs_no_role(admin: User, member: User, team: Team) -> None:
    teams.set_role(team, member, TeamRole.OWNER, actor=admin)
    assert roles(team)["member"] == "owner"


@pytest.mark.django_db(transaction=True)
def test_gateways_ask_again_when_a_role_changes(owner: User, member: User, team: Team, listener: Listener) -> None:
    teams.set_role(team, member, TeamRole.MEMBER, actor=owner)
    assert listener.next() == {"user": str(member.pk)}
    teams.set_role(team, member, None, actor=owner)
    assert listener.next() == {"user": str(member.pk)}


def test_a_team_with_workspaces_stays_until_they_are_gone_for_good(
    owner: User, team: Team, workspace_factory: Factory
) -> None:
    workspace = workspace_factory(owner, state="deleted", desired="deleted", team=team)
    with pytest.raises(Conflict, match="1 workspace, those in the trash included"):
        teams.delete_team(team, actor=owner)
    assert roles(Team.objects.get()) == {"owner": "owner"}
    assert transition(workspace, State.PURGED, now=timezone.now(), reason=Reason.DELETED)
    teams.delete_team(Team.objects.get(), actor=owner)
    assert not Team.objects.exists()
    assert Workspace.objects.get().team is None


def test_all_of_it_is_in_the_audit_log(owner: User, member: User, team: Team) -> None:
    teams.set_role(team, member, TeamRole.MEMBER, actor=owner)
    teams.set_role(team, member, TeamRole.MEMBER, actor=owner)
    teams.rename_team(team, name="  Big   Rockets ", actor=owner)
    teams.set_role(team, member, None, actor=member)
    teams.delete_team(team, actor=owner)
    found = [(row.action, row.actor, row.difference) for row in AuditEntry.objects.all()]
    assert found == [
        ("team.create", "owner", {"name": ["", "Rockets"]}),
        ("team.role", "owner", {"member": [None, "member"]}),
        ("team.rename", "owner", {"name": ["Rockets", "Big Rockets"]}),
        ("team.role", "member", {"member": ["member", None]}),
        ("team.delete", "owner", {}),
    ]
