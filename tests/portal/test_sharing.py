"""Sharing by the portal's forms, and what those see with whom something is shared."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import Membership, Team, User
from workspaces.models import Grant, Workspace
from workspaces.services import sharing

Factory = Callable[..., Workspace]
pytestmark = pytest.mark.django_db
PAGE = "/workspaces/rocket-bcdfg"


@pytest.fixture
def workspace(owner: User, workspace_factory: Factory) -> Workspace:
    return workspace_factory(owner, name="Rocket", state="running", desired="running", upstream={"ide": "unix:/x"})


@pytest.fixture
def guest(member: User) -> Client:
    """The browser of somebody with whom it may be shared."""
    client = Client()
    client.force_login(member, backend="django.contrib.auth.backends.ModelBackend")
    return client


def seen(client: Client, path: str = PAGE) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.mark.parametrize(
    ("level", "acts"),
    [("view", set()), ("use", {"stop", "restart"}), ("manage", {"stop", "restart", "delete", "rename", "share"})],
)
def test_a_page_offers_what_its_viewer_may_do(
    owner_client: Client, guest: Client, workspace: Workspace, level: str, acts: set[str]
) -> None:
    assert guest.get(PAGE).status_code == 404
    answer = owner_client.post(f"{PAGE}/share", {"whom": "member", "level": level, "life": "day"}, follow=True)
    assert "member" in answer.content.decode()
    page = seen(guest)
    offered = {act for act in ("stop", "restart", "delete", "rename") if f"/do/{act}" in page}
    assert offered | ({"share"} if f'action="{PAGE}/share"' in page else set()) == acts
    assert ('class="button primary"' in page and ">Open" in page.replace("</svg>", ">")) is (level != "view")
    assert ('id="log"' in page) is (level != "view")
    assert "Belongs to Olga Owner" in page
    assert "shared by Olga Owner" in seen(guest, "/")
    assert "shared by" not in seen(owner_client, "/")


def test_who_may_only_look_cannot_post_what_is_not_offered(
    owner_client: Client, guest: Client, workspace: Workspace
) -> None:
    owner_client.post(f"{PAGE}/share", {"whom": "member", "level": "view"})
    for path in ("do/stop", "do/delete", "do/rename", "share"):
        assert guest.post(f"{PAGE}/{path}", {"name": "mine", "whom": "member", "level": "manage"}).status_code == 403
    assert guest.get(f"{PAGE}/log").status_code == 403
    share = Grant.objects.get()
    assert guest.post(f"{PAGE}/share/{share.pk}/end").status_code == 403
    workspace.refresh_from_db()
    assert (workspace.generation, workspace.name, share.level) == (1, "Rocket", "view")


def test_who_runs_the_house_cannot_let_themselves_in(admin: User, workspace: Workspace) -> None:
    client = Client()
    client.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
    page = seen(client)
    assert "/do/stop" in page
    assert f'action="{PAGE}/share"' not in page
    assert client.post(f"{PAGE}/share", {"whom": "boss", "level": "use"}).status_code == 403
    assert not Grant.objects.exists()


def test_a_start_page_leads_nobody_where_they_may_not_be(guest: Client, member: User, workspace: Workspace) -> None:
    Grant.objects.create(workspace=workspace, user=member, level="view")
    assert 'data-state="running"' not in seen(guest, f"{PAGE}/start")
    Grant.objects.update(level="use")
    assert 'data-state="running"' in seen(guest, f"{PAGE}/start")


def test_what_was_shared_can_be_ended(owner_client: Client, guest: Client, workspace: Workspace) -> None:
    owner_client.post(f"{PAGE}/share", {"whom": "member@example.com", "level": "use", "life": "hour"})
    grant = Grant.objects.get()
    assert grant.expires_at is not None
    assert grant.expires_at - timezone.now() < timedelta(hours=1)
    assert owner_client.post(f"{PAGE}/share/{grant.pk}/end").status_code == 302
    assert guest.get(PAGE).status_code == 404


def test_a_team_can_be_let_in_by_who_may_see_it(
    owner: User, member: User, owner_client: Client, guest: Client, workspace: Workspace
) -> None:
    team = Team.objects.create(slug="rockets", name="Rockets")
    Membership.objects.create(team=team, user=member, role="member")
    owner_client.post(f"{PAGE}/share", {"whom": "rockets", "level": "use"})
    assert not Grant.objects.exists()
    Membership.objects.create(team=team, user=owner, role="viewer")
    owner_client.post(f"{PAGE}/share", {"whom": "rockets", "level": "use"})
    assert "Rocket" in seen(guest)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"whom": "nobody-here", "level": "use"}, "Nobody here is called"),
        ({"whom": "", "level": "use"}, "Nobody here is called"),
        ({"whom": "member", "level": "root"}, "There is no such level"),
        ({"whom": "owner", "level": "use"}, "This workspace is theirs"),
    ],
)
def test_what_cannot_be_shared_is_said(
    owner_client: Client, member: User, workspace: Workspace, form: dict[str, str], said: str
) -> None:
    assert said in owner_client.post(f"{PAGE}/share", form, follow=True).content.decode()
    assert not Grant.objects.exists()


def test_an_owner_reads_why_an_admin_came_in(owner_client: Client, admin: User, workspace: Workspace) -> None:
    reason = "The <b>disk</b> is full"
    sharing.break_glass(workspace, reason=reason, life=timedelta(hours=1), actor=admin, now=timezone.now())
    page = seen(owner_client)
    assert "let themselves in as an administrator: The &lt;b&gt;disk&lt;/b&gt; is full" in page
    assert reason not in page
