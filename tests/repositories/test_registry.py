from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernel.errors import Invalid
from tests.repositories.conftest import git
from tests.support.github import GitHubServer
from workspaces.repositories.registry import Providers, RepositoryConfig, build_providers

Make = Callable[..., Path]


@pytest.fixture
def providers(github: GitHubServer, tmp_path: Path) -> Iterator[Providers]:
    config = RepositoryConfig(
        git_home=tmp_path / "git-home",
        github_api_url=github.api_url,
        github_url=github.url,
        github_token=github.add_token("s3cret"),
        allow_file=True,
    )
    assert "s3cret" not in repr(config)
    made = build_providers(config)
    yield made
    made.close()


def test_what_was_typed_reaches_the_right_provider(
    providers: Providers, github: GitHubServer, make_repository: Make
) -> None:
    folder = make_repository("hello.git", "next")
    head = git(folder, "rev-parse", "next")
    github.add("octocat/hello", git_dir=folder)
    by_name = providers.resolve("octocat/hello", "next")
    by_path = providers.resolve(str(folder), "next")
    assert (by_name.metadata.provider, by_path.metadata.provider) == ("github", "git")
    assert by_name.commit == by_path.commit == head
    assert [one.name for one in providers.branches("octocat/hello")] == ["main", "next"]
    assert [one.name for one in providers.branches(str(folder), query="ne")] == ["next"]
    assert [one.full_name for one in providers.search("hel")] == ["octocat/hello"]


def test_what_was_resolved_can_be_cloned_with_the_credential(
    providers: Providers, github: GitHubServer, make_repository: Make, tmp_path: Path
) -> None:
    github.add("octocat/secret", git_dir=make_repository("secret.git"), private=True)
    found = providers.resolve("octocat/secret")
    credential = providers.credential(found.metadata.clone_url)
    assert credential is not None
    address = found.metadata.clone_url.replace("http://", f"http://{credential.username}:{credential.password}@")
    git(tmp_path, "clone", "--quiet", address, "copy")
    assert git(tmp_path / "copy", "rev-parse", "HEAD") == found.commit
    assert providers.credential("https://example.com/a/b.git") is None


def test_refusals_come_before_any_request(providers: Providers, github: GitHubServer) -> None:
    for text in ("", "ext::sh", "octocat/🦊", "https://ada:hunter2@example.com/a"):
        with pytest.raises(Invalid):
            providers.resolve(text)
    assert not github.seen
