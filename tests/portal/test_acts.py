"""Buttons without scripts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from workspaces.models import Workspace

Factory = Callable[..., Workspace]
pytestmark = pytest.mark.django_db
DO = "/workspaces/rocket-bcdfg/do"


@pytest.fixture
def workspace(owner: User, workspace_factory: Factory) -> Workspace:
    return workspace_factory(owner, name="Rocket", state="running", desired="running")


@pytest.mark.parametrize(("verb", "desired"), [("stop", "stopped"), ("delete", "deleted"), ("restart", "running")])
def test_a_button_is_one_intent_however_often_it_is_clicked(
    owner_client: Client, workspace: Workspace, verb: str, desired: str
) -> None:
    for _ in range(2):
        assert owner_client.post(f"{DO}/{verb}").status_code == 303
    workspace.refresh_from_db()
    assert (workspace.desired, workspace.generation) == (desired, 2)


def test_start_leads_to_the_start_page(owner_client: Client, owner: User, workspace_factory: Factory) -> None:
    workspace_factory(owner, state="stopped", desired="stopped")
    back = "/workspaces/rocket-bcdfg/start?next=/x"
    assert owner_client.post(f"{DO}/start")["Location"] == "/workspaces/rocket-bcdfg/start"
    assert owner_client.post(f"{DO}/start", {"back": back})["Location"] == back


def test_a_deletion_can_be_undone_from_the_note(owner_client: Client, workspace: Workspace) -> None:
    page = owner_client.post(f"{DO}/delete", follow=True).content.decode()
    assert "Rocket goes to the trash." in page
    assert f'action="{DO}/restore"' in page
    Workspace.objects.update(state="deleted", deleted_at=timezone.now())
    page = owner_client.post(f"{DO}/restore", {"back": "/"}, follow=True).content.decode()
    assert "Rocket is back" in page
    workspace.refresh_from_db()
    assert workspace.state == "stopped"


def test_what_cannot_be_done_is_said_where_the_button_was(owner_client: Client, workspace: Workspace) -> None:
    Workspace.objects.update(state="deleted", desired="deleted", purge_at=timezone.now())
    page = owner_client.post(f"{DO}/stop", {"back": "/trash"}, follow=True)
    assert page.redirect_chain == [("/trash", 303)]
    assert "flash-error" in page.content.decode()


@pytest.mark.parametrize("name", ["", " ", "x" * 101, "a\x00b", "a\u202eb"])
def test_a_name_that_will_not_do_changes_nothing(owner_client: Client, workspace: Workspace, name: str) -> None:
    page = owner_client.post(f"{DO}/rename", {"name": name}, follow=True)
    assert "printable characters" in page.content.decode()
    workspace.refresh_from_db()
    assert workspace.name == "Rocket"


@pytest.mark.parametrize("name", ["a <b> 'c' \"d\"", "🚀 launch", "-rf", "ext::sh"])
def test_names_may_look_odd(owner_client: Client, workspace: Workspace, name: str) -> None:
    assert owner_client.post(f"{DO}/rename", {"name": name}).status_code == 303
    workspace.refresh_from_db()
    assert workspace.name == name


def test_a_get_changes_nothing_and_shows_the_workspace(owner_client: Client, workspace: Workspace) -> None:
    answer = owner_client.get(f"{DO}/delete")
    assert answer["Location"] == "/workspaces/rocket-bcdfg"
    workspace.refresh_from_db()
    assert workspace.desired == "running"


@pytest.mark.parametrize("back", ["https://evil.example/", "//evil.example", "/\\evil.example"])
def test_a_button_never_leads_elsewhere(owner_client: Client, workspace: Workspace, back: str) -> None:
    assert owner_client.post(f"{DO}/stop", {"back": back})["Location"] == "/"


def test_others_cannot_press_it(outsider: User, workspace: Workspace) -> None:
    client = Client()
    client.force_login(outsider, backend="django.contrib.auth.backends.ModelBackend")
    assert client.post(f"{DO}/delete").status_code == 404
    workspace.refresh_from_db()
    assert workspace.desired == "running"


def test_other_sites_cannot_press_it(owner: User, workspace: Workspace) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner, backend="django.contrib.auth.backends.ModelBackend")
    answer = client.post(f"{DO}/delete")
    assert answer.status_code == 403
    assert b"Nothing was changed" in answer.content
    workspace.refresh_from_db()
    assert workspace.desired == "running"
