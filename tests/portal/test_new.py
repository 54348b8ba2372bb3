"""The form that creates a workspace."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from django.test import Client

from accounts.models import User
from workspaces.models import Workspace

pytestmark = pytest.mark.django_db


@pytest.fixture
def repo(tmp_path: Path) -> str:
    """A repository with a branch, on this machine."""
    folder = tmp_path / "rocket"
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
    subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
    subprocess.run(["git", "-C", folder, *identity, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    subprocess.run(["git", "-C", folder, "branch", "feature/x"], check=True)
    return folder.as_uri()


def fill(client: Client, **fields: str) -> dict[str, str]:
    """What a browser sends: the form's key, and the fields."""
    return {"key": client.get("/new").context["filled"].key, **fields}


def test_the_form_creates_and_leads_to_the_start(owner_client: Client, owner: User, repo: str) -> None:
    answer = owner_client.post("/new", fill(owner_client, repo=repo, branch="feature/x", name="My rocket"))
    made = Workspace.objects.get()
    assert (answer.status_code, answer["Location"]) == (303, f"/workspaces/{made.slug}/start")
    assert (made.owner, made.name, made.branch) == (owner, "My rocket", "feature/x")


def test_two_clicks_make_one_workspace(owner_client: Client, repo: str) -> None:
    form = fill(owner_client, repo=repo)
    places = {owner_client.post("/new", form)["Location"] for _ in range(3)}
    assert len(places) == Workspace.objects.count() == 1


def test_a_form_that_was_used_and_changed_asks_again(owner_client: Client, repo: str) -> None:
    form = fill(owner_client, repo=repo)
    owner_client.post("/new", form)
    again = owner_client.post("/new", {**form, "branch": "feature/x"})
    assert again.status_code == 409
    assert b"already created a workspace" in again.content
    key = again.context["filled"].key
    assert key != form["key"]
    assert owner_client.post("/new", {**form, "branch": "feature/x", "key": key}).status_code == 303
    assert Workspace.objects.count() == 2


def test_a_link_fills_the_form(owner_client: Client) -> None:
    page = owner_client.get("/new", {"repo": "acme/<rocket>", "branch": "main"}).content.decode()
    assert 'value="acme/&lt;rocket&gt;"' in page
    assert 'value="main"' in page
    assert not Workspace.objects.exists()


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "one", "a/b/c", "-oProxyCommand=x/y", "ext::sh -c id", "fd::17", "https://", "https://user:pw@host/x.git",
        "owner/na me", "owner/'; rm -rf", "💥/💥", "\x00/\x00", "file:///does/not/exist", "x" * 5000,
        "javascript:alert(1)",
    ],
)  # fmt: skip
def test_a_repository_that_will_not_do_is_explained_at_its_field(owner_client: Client, text: str) -> None:
    answer = owner_client.post("/new", fill(owner_client, repo=text))
    page = answer.content.decode()
    assert 400 <= answer.status_code < 500
    assert 'id="repo-error"' in page
    assert 'aria-invalid="true"' in page
    assert not Workspace.objects.exists()


@pytest.mark.parametrize("branch", ["nope", "-x", "a..b", "refs/heads/../x", "a b", "💥", "x" * 390])
def test_a_branch_that_will_not_do_is_explained_at_its_field(owner_client: Client, repo: str, branch: str) -> None:
    answer = owner_client.post("/new", fill(owner_client, repo=repo, branch=branch))
    assert 400 <= answer.status_code < 500
    assert b'id="branch-error"' in answer.content
    assert not Workspace.objects.exists()


def test_a_name_that_will_not_do_is_explained_and_the_rest_is_kept(owner_client: Client, repo: str) -> None:
    page = owner_client.post("/new", fill(owner_client, repo=repo, name="x" * 101)).content.decode()
    assert 'id="name-error"' in page
    assert f'value="{repo}"' in page


@pytest.mark.parametrize("key", ["", "x" * 129, "\x00"])
def test_a_key_that_is_not_ours_is_replaced(owner_client: Client, repo: str, key: str) -> None:
    answer = owner_client.post("/new", {"repo": repo, "key": key})
    assert answer.status_code == 400
    assert answer.context["filled"].key not in {"", key}
    assert not Workspace.objects.exists()


def test_nonsense_is_answered_with_a_page(owner_client: Client) -> None:
    big = owner_client.post("/new", {"repo": "x" * 100_000})
    assert big.status_code == 413
    assert b"larger than 64 KiB" in big.content
    assert owner_client.post("/new", b"{" * 1000, content_type="application/json").status_code == 400
    assert owner_client.put("/new").status_code == 405
