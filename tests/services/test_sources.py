"""What a workspace is given of its repository: always the same place, and never more than it may see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone

from accounts.models import User
from kernel.errors import Invalid
from tests.support.git_repos import create
from workspaces.models import Repository, Workspace
from workspaces.repositories.port import RepositoryMetadata
from workspaces.services import repositories
from workspaces.services.runtimes import run_spec

Factory = Callable[..., Workspace]


def test_a_rename_does_not_move_the_checkout(owner: User, repository: Repository, workspace_factory: Factory) -> None:
    Repository.objects.filter(pk=repository.pk).update(provider="github", external_id="7")
    workspace = workspace_factory(owner, clone_url=repository.clone_url, repository_name=repository.full_name)
    before = run_spec(workspace).agent["repository"]
    repositories.remember(
        RepositoryMetadata(
            provider="github", external_id="7", full_name="acme/moon", clone_url="https://git.example.com/acme/moon.git",
            web_url="", default_branch="main", visibility="private", description="", languages={}, size_kb=None,
            head_commit="b" * 40,
        ),
        now=timezone.now(),
    )  # fmt: skip
    after = run_spec(Workspace.objects.select_related("repository", "owner").get()).agent["repository"]
    assert after == before
    assert Repository.objects.get().full_name == "acme/moon"


def test_a_public_repository_gets_no_credential(
    owner: User, repository: Repository, workspace_factory: Factory
) -> None:
    repository.visibility = "public"
    workspace = workspace_factory(owner)
    workspace.repository = repository
    assert repositories.credential_for(workspace, "https", "git.example.com", "acme/rocket.git") is None


def test_the_platforms_own_data_is_no_repository(tmp_path: Path) -> None:
    home = settings.ENVIRONMENT.home
    create(tmp_path / "fine.git", {"a.txt": "a"}, branches={})
    (tmp_path / "link.git").symlink_to(tmp_path / "fine.git")
    assert repositories.local_folder(f"file://{tmp_path}/fine.git") == tmp_path / "fine.git"
    assert repositories.local_folder("https://git.example.com/a.git") is None
    for path in (home, home.parent, home / "secrets", Path("/"), tmp_path / "link.git"):
        with pytest.raises(Invalid) as refused:
            repositories.local_folder(f"file://{path}")
        assert refused.value.next_step


def test_of_a_checkout_only_its_git_folder_is_shown(tmp_path: Path) -> None:
    (tmp_path / "work" / ".git").mkdir(parents=True)
    (tmp_path / "work" / "secret.txt").write_text("not committed")
    assert repositories.local_folder(f"file://{tmp_path}/work") == tmp_path / "work" / ".git"
