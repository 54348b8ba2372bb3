"""Which provider is asked, and how they are put together from settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from workspaces.repositories.cache import Cache, NoCache
from workspaces.repositories.git import GitProvider
from workspaces.repositories.github import GitHubProvider
from workspaces.repositories.parse import parse
from workspaces.repositories.port import Branch, Credential, Provider, RepositoryRef, Resolved, Suggestion


@dataclasses.dataclass(frozen=True, slots=True)
class RepositoryConfig:
    """Settings of the repository providers.

    Attributes:
        git_home: a folder of ours that git gets for a home; made when it is missing.
        github_api_url: `https://api.github.com`, or `https://<host>/api/v3` for GitHub Enterprise Server.
        github_url: what `owner/name` is relative to, and the host whose addresses are looked up through the API.
        github_token: for the API and for git over https; empty for public repositories only.
        allow_file: whether folders of the server may be used as repositories. Whoever may create workspaces can then
            read every repository that the platform's own user can read.
        github_timeout, git_timeout: seconds for one operation.
        blocked_hosts: see `git.GitProvider`.
    """

    git_home: Path
    github_api_url: str = "https://api.github.com"
    github_url: str = "https://github.com"
    github_token: str = dataclasses.field(default="", repr=False)
    allow_file: bool = False
    github_timeout: float = 6.0
    git_timeout: float = 10.0
    blocked_hosts: tuple[str, ...] = ()


class Providers:
    """All providers of an installation. Make one per process: it keeps connections."""

    def __init__(self, config: RepositoryConfig, github: GitHubProvider, git: GitProvider) -> None:
        self._config = config
        self._github = github
        self._git = git

    def close(self) -> None:
        """Close idle connections."""
        self._github.close()

    def parse(self, text: str) -> RepositoryRef:
        """Understand what somebody typed; see `parse.parse`."""
        return parse(text, github_url=self._config.github_url, allow_file=self._config.allow_file)

    def for_ref(self, ref: RepositoryRef) -> Provider:
        """The provider that knows this repository."""
        return self._github if ref.provider == "github" else self._git

    def resolve(self, text: str, branch: str | None = None) -> Resolved:
        """Understand what somebody typed and look it up; see `port.Provider.resolve`."""
        ref = self.parse(text)
        return self.for_ref(ref).resolve(ref, branch=branch)

    def branches(self, text: str, *, query: str = "", limit: int = 50) -> list[Branch]:
        """Branches of what somebody typed; see `port.Provider.branches`."""
        ref = self.parse(text)
        return self.for_ref(ref).branches(ref, query=query, limit=limit)

    def search(self, query: str, *, limit: int = 10) -> list[Suggestion]:
        """Repositories that match what is being typed."""
        return self._github.search(query, limit=limit)

    def credential(self, clone_url: str) -> Credential | None:
        """What git needs to read this repository over https, where we have it."""
        return self._github.credential(clone_url)


def build_providers(config: RepositoryConfig, cache: Cache | None = None) -> Providers:
    """Put the providers together.

    Args:
        cache: shared by all processes, such as `cache.RedisCache`; None for no cache.
    """
    github = GitHubProvider(
        api_url=config.github_api_url,
        web_url=config.github_url,
        token=config.github_token,
        cache=cache or NoCache(),
        timeout=config.github_timeout,
    )
    git = GitProvider(
        home=config.git_home,
        allow_file=config.allow_file,
        blocked_hosts=config.blocked_hosts,
        timeout=config.git_timeout,
    )
    return Providers(config, github, git)
