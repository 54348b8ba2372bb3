"""Where a workspace's code may come from, each cloned for real."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.git_repos import create
from tests.support.github import GitHubServer
from tests.support.platform import Platform

pytestmark = [pytest.mark.ide, pytest.mark.timeout(120)]


def _started(platform: Platform, repo: str, **fields: str) -> Path:
    """The checkout of a new workspace, once it runs."""
    workspace = platform.create(repo, **fields)
    running = platform.wait_for(workspace["id"], "running", "failed")
    assert running["state"] == "running", running["failure"]
    name = running["repository"]["full_name"].rsplit("/", 1)[-1]
    return platform.home / "workspaces" / str(running["slug"]) / "home" / str(name)


def test_a_repository_in_a_folder(platform: Platform, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    create(tmp_path / "local", {"here.txt": "from a folder"}, branches={})
    checkout = _started(platform, f"file://{tmp_path}/local")
    assert (checkout / "here.txt").read_text() == "from a folder"


def test_a_private_repository_on_github(platform: Platform, github: GitHubServer, tmp_path: Path) -> None:
    repository = create(tmp_path / "secret.git", {"plan.txt": "private"}, branches={"feature/x": {"x.txt": "x"}})
    github.add("acme/secret", private=True, git_dir=repository.path)
    checkout = _started(platform, "acme/secret", branch="feature/x")
    assert (checkout / "x.txt").read_text() == "x"
    assert "ghp_" not in (checkout / ".git" / "config").read_text()


def test_a_renamed_repository_on_github(platform: Platform, github: GitHubServer, tmp_path: Path) -> None:
    repository = create(tmp_path / "new.git", {"a.txt": "a"}, branches={})
    github.add("acme/old", git_dir=repository.path)
    github.rename("acme/old", "acme/new")
    checkout = _started(platform, f"{github.url}/acme/old")
    assert checkout.name == "new"


def test_a_commit_of_github(platform: Platform, github: GitHubServer, tmp_path: Path) -> None:
    repository = create(tmp_path / "c.git", {"a.txt": "first"}, branches={})
    first = repository.head()
    repository.commit({"a.txt": "second"})
    github.add("acme/commits", git_dir=repository.path)
    checkout = _started(platform, f"{github.url}/acme/commits/commit/{first}")
    assert (checkout / "a.txt").read_text() == "first"


@pytest.mark.parametrize(
    "repo", ["acme/nothing", "ext::sh -c true", "--upload-pack=touch /tmp/x", "", "a b/c", "💥/💥"]
)
def test_what_cannot_be_cloned_is_refused_with_words(platform: Platform, repo: str) -> None:
    status, problem = platform.api("POST", "/workspaces", {"repo": repo})
    assert 400 <= status < 500
    assert problem["code"]
    assert problem["detail"]
    assert problem["next_step"]
