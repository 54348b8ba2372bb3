"""Every address of the API, tried by everybody: who gets through is written down, and an address without a row fails.

`team` owns the workspace's team; who is in the team, or was let in, is named by what they are. Wrong scopes and tokens
that have ended are tried with whoever may do most.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from drf_spectacular.generators import SchemaGenerator

from accounts.models import ApiToken, Membership, Team, TeamRole, User
from tests.api.conftest import Api
from workspaces.models import Grant, Repository, Workspace

Bearer = Callable[..., dict[str, str]]
CALLERS = ("owner", "lead", "member", "viewer", "reader", "guest", "keeper", "auditor", "admin", "outsider")
ALL = frozenset(CALLERS)
NONE: frozenset[str] = frozenset()
SEE = ALL - {"outsider"}
RUN = frozenset({"owner", "lead", "guest", "keeper", "admin"})
CHANGE = frozenset({"owner", "lead", "keeper", "admin"})
# Who runs the house cannot let themselves in.
SHARE = frozenset({"owner", "keeper"})
TEAM = frozenset({"owner", "lead", "member", "viewer", "auditor", "admin"})
LEAD = frozenset({"owner", "lead", "admin"})
OWN = frozenset({"owner", "admin"})
ADMIN = frozenset({"admin"})


@dataclasses.dataclass(frozen=True)
class Row:
    """What one operation answers.

    Attributes:
        may: for whom it works, with status `works`.
        sees: who learns that there is something; those that may not, among them, get 403, all others 404.
        scope: the scope that its token needs.
        works: the status for those who may. A row whose body is wrong on purpose ends at 400, behind all checks.
        body: what is sent.
    """

    may: frozenset[str]
    sees: frozenset[str] = ALL
    scope: str = "read"
    works: int = 200
    body: Any = None


W = "workspaces"
ROWS = {
    "me": Row(ALL),
    "tokens_list": Row(ALL),
    "tokens_create": Row(ALL, scope="admin", works=201, body={"name": "ci", "scopes": ["admin"], "days": 1}),
    # It is nobody's of the cast.
    "tokens_revoke": Row(NONE, NONE, "admin"),
    "teams_list": Row(ALL),
    "teams_create": Row(ADMIN, scope="admin", works=201, body={"slug": "boats"}),
    "teams_get": Row(TEAM, TEAM),
    "teams_change": Row(LEAD, TEAM, "admin", body={"name": "Boats"}),
    # It has a workspace, which is found out after the role.
    "teams_delete": Row(OWN, TEAM, "admin", 409),
    "members_list": Row(TEAM, TEAM),
    "members_set": Row(LEAD, TEAM, "admin", body={"role": "viewer"}),
    "members_remove": Row(LEAD, TEAM, "admin", 204),
    "workspaces_list": Row(ALL),
    "workspaces_create": Row(ALL, scope=W, works=400, body={}),
    "workspaces_get": Row(SEE, SEE),
    "workspaces_change": Row(CHANGE, SEE, W, body={"name": "x"}),
    "workspaces_delete": Row(CHANGE, SEE, W, 202),
    "workspaces_start_create": Row(RUN, SEE, W, 202),
    "workspaces_stop_create": Row(RUN, SEE, W, 202),
    "workspaces_restart_create": Row(RUN, SEE, W, 202),
    "workspaces_restore_create": Row(CHANGE, SEE, W, 202),
    "workspaces_events": Row(SEE, SEE),
    "workspaces_logs": Row(RUN, SEE),
    "shares_list": Row(SEE, SEE),
    "shares_create": Row(SHARE, SEE, W, 201, {"user": "outsider", "level": "view"}),
    "shares_delete": Row(CHANGE, SEE, W, 204),
    "break_glass": Row(ADMIN, SEE, "admin", 201, {"reason": "its owner is ill today"}),
    "repositories_branches": Row(ALL, works=400),
    "repositories_search": Row(ALL),
}


def _operations() -> list[tuple[str, str, str]]:
    generator: Any = SchemaGenerator  # Untyped in drf-spectacular.
    paths = generator().get_schema(request=None, public=True)["paths"]
    return [
        (operation["operationId"], method.upper(), path)
        for path, ways in paths.items()
        for method, operation in ways.items()
    ]


@dataclasses.dataclass
class Cast:
    """Everybody, and the objects that they try."""

    people: dict[str, User]
    workspace: Workspace
    share: Grant

    def path(self, template: str) -> str:
        """An address, filled in."""
        places = {
            "workspace_id": self.workspace.pk,
            "share_id": self.share.pk,
            "token_id": 2**31,
            "slug": "rockets",
            "username": "newcomer",
        }
        return template.format(**places)


@pytest.fixture
def cast(db: None, repository: Repository, workspace_factory: Callable[..., Workspace]) -> Cast:
    people = {name: User.objects.create(username=name, email=f"{name}@example.com") for name in (*CALLERS, "newcomer")}
    User.objects.filter(username="admin").update(is_staff=True, is_superuser=True)
    User.objects.filter(username="auditor").update(is_staff=True)
    team = Team.objects.create(slug="rockets", name="Rockets")
    for name, role in (("owner", "owner"), ("lead", "admin"), ("member", "member"), ("viewer", "viewer")):
        Membership.objects.create(team=team, user=people[name], role=role)
    Membership.objects.create(team=team, user=people["newcomer"], role=TeamRole.VIEWER)
    workspace = workspace_factory(people["owner"], state="stopped", desired="stopped", team=team)
    for name, level in (("reader", "view"), ("guest", "use"), ("keeper", "manage")):
        Grant.objects.create(workspace=workspace, user=people[name], level=level)
    share = Grant.objects.create(workspace=workspace, user=people["newcomer"], level="view")
    return Cast({name: User.objects.get(username=name) for name in people}, workspace, share)


def _tried(api: Api, method: str, path: str, body: Any) -> int:
    """The status of one request, of which nothing stays."""
    with transaction.atomic():
        status: int = api(method, path, body).status_code
        transaction.set_rollback(True)
    return status


def test_every_operation_has_a_row() -> None:
    assert {name for name, _, _ in _operations()} == set(ROWS)


@pytest.mark.parametrize(("name", "method", "path"), _operations(), ids=lambda value: value)
def test_who_gets_through(cast: Cast, bearer: Bearer, name: str, method: str, path: str) -> None:
    row, target = ROWS[name], cast.path(path)
    expected = {caller: row.works if caller in row.may else 403 if caller in row.sees else 404 for caller in CALLERS}
    found = {
        caller: _tried(Api(bearer(cast.people[caller], row.scope)), method, target, row.body) for caller in CALLERS
    }
    assert found == expected


@pytest.mark.parametrize(("name", "method", "path"), _operations(), ids=lambda value: value)
def test_what_no_token_and_no_wrong_token_gets(cast: Cast, bearer: Bearer, name: str, method: str, path: str) -> None:
    row, target = ROWS[name], cast.path(path)
    boss = cast.people["admin"]
    assert _tried(Api({}), method, target, row.body) == 401
    for scope in {"read", "workspaces", "admin"} - {row.scope}:
        status = _tried(Api(bearer(boss, scope)), method, target, row.body)
        works = row.works if "admin" in row.may else 404
        assert status == (works if row.scope == "read" else 403), scope
    ended = bearer(boss, row.scope)
    for change in ({"expires_at": timezone.now() - timedelta(seconds=1)}, {"revoked_at": timezone.now()}):
        with transaction.atomic():
            ApiToken.objects.update(**change)
            assert Api(ended)(method, target, row.body).status_code == 401
            transaction.set_rollback(True)
