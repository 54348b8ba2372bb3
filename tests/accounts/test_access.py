"""Who may do what with a workspace: the table of `accounts.access`, asked of the database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.access import Ability
from accounts.models import Membership, Team, TeamRole, User
from kernel.errors import Forbidden, NotFound
from workspaces import selectors
from workspaces.models import Grant, Workspace

Factory = Callable[..., Workspace]
NOTHING: frozenset[str] = frozenset()
VIEW = frozenset({"view"})
RUNS = frozenset({"view", "operate", "change"})
USES = frozenset({"view", "operate", "open"})
ALL = frozenset({"view", "operate", "open", "change", "share"})


@pytest.fixture
def team(db: None) -> Team:
    return Team.objects.create(slug="rockets", name="Rockets")


@pytest.fixture
def workspace(owner: User, team: Team, workspace_factory: Factory) -> Workspace:
    return workspace_factory(owner, team=team)


def abilities(user: User | AnonymousUser, workspace: Workspace) -> frozenset[str]:
    """What a request of this user gets through with, one ability after another."""
    found = set()
    for ability in Ability:
        try:
            selectors.workspace_of(user, workspace.pk, ability=ability)
        except (NotFound, Forbidden):
            continue
        found.add(ability.value)
    return frozenset(found)


def test_an_owner_may_all_and_a_stranger_nothing(owner: User, outsider: User, workspace: Workspace) -> None:
    assert abilities(owner, workspace) == ALL
    assert abilities(outsider, workspace) == NOTHING
    assert abilities(AnonymousUser(), workspace) == NOTHING


@pytest.mark.parametrize(
    ("role", "expected"),
    [(TeamRole.OWNER, RUNS), (TeamRole.ADMIN, RUNS), (TeamRole.MEMBER, VIEW), (TeamRole.VIEWER, VIEW)],
)
def test_a_role_counts_in_its_team_alone(
    member: User, outsider: User, team: Team, workspace: Workspace, role: TeamRole, expected: frozenset[str]
) -> None:
    Membership.objects.create(team=team, user=member, role=role)
    Membership.objects.create(team=Team.objects.create(slug="boats", name="Boats"), user=outsider, role=role)
    assert abilities(member, workspace) == expected
    assert abilities(outsider, workspace) == NOTHING


@pytest.mark.parametrize(("level", "expected"), [("view", VIEW), ("use", USES), ("manage", ALL)])
@pytest.mark.parametrize("through", ["user", "team"])
def test_what_is_shared_ends_when_it_was_to(
    member: User, outsider: User, workspace: Workspace, level: str, expected: frozenset[str], through: str
) -> None:
    guests = Team.objects.create(slug="guests", name="Guests")
    Membership.objects.create(team=guests, user=member, role=TeamRole.VIEWER)
    to: dict[str, Any] = {"user": member} if through == "user" else {"team": guests}
    grant = Grant.objects.create(workspace=workspace, level=level, **to)
    assert abilities(member, workspace) == expected
    assert abilities(outsider, workspace) == NOTHING
    Grant.objects.filter(pk=grant.pk).update(expires_at=timezone.now() + timedelta(minutes=1))
    assert abilities(member, workspace) == expected
    Grant.objects.filter(pk=grant.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert abilities(member, workspace) == NOTHING


def test_the_strongest_counts(member: User, team: Team, workspace: Workspace) -> None:
    Membership.objects.create(team=team, user=member, role=TeamRole.ADMIN)
    Grant.objects.create(workspace=workspace, user=member, level="use")
    assert abilities(member, workspace) == RUNS | USES


def test_an_admin_gets_in_only_through_broken_glass(admin: User, workspace: Workspace) -> None:
    assert abilities(admin, workspace) == RUNS
    soon = timezone.now() + timedelta(minutes=5)
    Grant.objects.create(
        workspace=workspace, user=admin, level="use", emergency=True, reason="its owner is ill", expires_at=soon
    )
    assert abilities(admin, workspace) == RUNS | USES, "what ends must not be made to last by sharing"
    User.objects.filter(pk=admin.pk).update(is_superuser=False, is_staff=False)
    assert abilities(User.objects.get(pk=admin.pk), workspace) == NOTHING


def test_an_auditor_sees_and_touches_nothing(outsider: User, workspace: Workspace) -> None:
    outsider.is_staff = True
    outsider.save()
    assert abilities(outsider, workspace) == VIEW


@pytest.mark.parametrize("name", ["owner", "admin"])
def test_who_is_disabled_may_nothing(request: pytest.FixtureRequest, workspace: Workspace, name: str) -> None:
    user: User = request.getfixturevalue(name)
    user.is_active = False
    user.save()
    assert abilities(user, workspace) == NOTHING


def test_a_list_is_one_statement_and_says_what_may_be_done(
    owner: User, member: User, team: Team, workspace: Workspace, workspace_factory: Factory
) -> None:
    workspace_factory(owner, slug="hidden-bcdfg")
    Membership.objects.create(team=team, user=member, role=TeamRole.MEMBER)
    mine = workspace_factory(member, slug="mine-bcdfg")
    both = workspace_factory(owner, slug="both-bcdfg", team=team)
    Grant.objects.create(workspace=both, team=team, level="use")
    Grant.objects.create(workspace=both, user=member, level="view")
    with CaptureQueriesContext(
        connection,
    ) as statements:
        rows = list(selectors.visible_to(member))
    assert len(statements) == 1
    assert {(row.slug, row.may_open, row.may_change) for row in rows} == {  # type: ignore[attr-defined]  # Annotated.
        (workspace.slug, False, False),
        (mine.slug, True, True),
        (both.slug, True, False),
    }
