"""Repositories: asked from their host, kept, and never asked more than needed."""

from __future__ import annotations

import functools
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog
from django.conf import settings

from accounts.models import User
from kernel.errors import Failure, Invalid
from workspaces.models import Repository, Workspace
from workspaces.repositories.cache import RedisCache
from workspaces.repositories.port import Credential, RepositoryMetadata, Resolved
from workspaces.repositories.registry import Providers, RepositoryConfig, build_providers
from workspaces.selectors import recent_repositories

log = structlog.get_logger(__name__)

MOST_BRANCHES = 50
# What the columns hold.
LONGEST_NAME = 400
LONGEST_ID = 200


@functools.cache
def providers() -> Providers:
    """The providers that the settings name, one set per process."""
    env = settings.ENVIRONMENT
    config = RepositoryConfig(
        git_home=env.home / "git",
        github_api_url=env.github_api_url,
        github_url=env.github_url,
        github_token=env.github_token,
        allow_file=env.allow_file_repositories,
        github_timeout=env.provider_timeout,
        git_timeout=env.provider_timeout,
    )
    return build_providers(config, cache=RedisCache.from_url(settings.REDIS_URL))


def resolve(text: str, *, branch: str | None) -> Resolved:
    """What somebody typed, looked up at its host.

    Raises:
        Failure: see `workspaces.repositories.port.Provider.resolve`; each says what to do next.
    """
    found = providers().resolve(text, branch=branch)
    local_folder(found.metadata.clone_url)
    return found


def remember(metadata: RepositoryMetadata, *, now: datetime) -> Repository:
    """Keep what the host said. A repository that was renamed keeps its row, found by the host's own id.

    Raises:
        Invalid: its name is longer than any host makes them.
    """
    if len(metadata.full_name) > LONGEST_NAME:
        raise Invalid(
            "repository_name_too_long",
            f"The repository's name is longer than {LONGEST_NAME} characters.",
            "Use a repository with a shorter path.",
            field="repo",
        )
    # Where a host has no ids, the address stands for one: it is found by that anyway.
    external_id = metadata.external_id if len(metadata.external_id) <= LONGEST_ID else ""
    values = {
        "provider": metadata.provider,
        "external_id": external_id,
        "full_name": metadata.full_name,
        "clone_url": metadata.clone_url,
        "web_url": metadata.web_url,
        "default_branch": metadata.default_branch,
        "visibility": metadata.visibility,
        "description": metadata.description[:10_000],
        "languages": dict(metadata.languages),
        "size_kb": metadata.size_kb,
        "head_commit": metadata.head_commit,
        "fetched_at": now,
    }
    known = Repository.objects.filter(clone_url=metadata.clone_url).first()
    if known is None and external_id:
        known = Repository.objects.filter(provider=metadata.provider, external_id=external_id).first()
    if known is None:
        row, _ = Repository.objects.update_or_create(clone_url=metadata.clone_url, defaults=values)
        return row
    for name, value in values.items():
        setattr(known, name, value)
    known.save(update_fields=list(values))
    return known


def look(text: str, *, query: str = "") -> dict[str, Any]:
    """What a form shows for a repository that was typed in: its facts, and branches to pick from.

    Raises:
        Failure: see `resolve`.
    """
    found = resolve(text, branch=None)
    branches = providers().branches(text, query=query, limit=MOST_BRANCHES)
    metadata = found.metadata
    return {
        "full_name": metadata.full_name,
        "default_branch": metadata.default_branch,
        "branch": found.branch,
        "visibility": metadata.visibility,
        "description": metadata.description,
        "languages": dict(metadata.languages),
        "size_kb": metadata.size_kb,
        "moved_from": metadata.moved_from,
        "branches": [branch.name for branch in branches],
    }


def suggest(user: User, query: str) -> list[dict[str, Any]]:
    """Repositories for what is being typed: those used before, then what the host finds.

    A host that cannot be asked only makes the list shorter.
    """
    # No name holds this, and PostgreSQL refuses to look for it.
    query = query.replace("\x00", "")
    recent = recent_repositories(user, query=query)
    rows = [_suggestion(row.full_name, row.description, row.visibility == "private", row) for row in recent]
    known = {row.full_name for row in recent}
    try:
        found = providers().search(query) if len(query) > 1 else []
    except Failure as failure:
        log.info("suggestions_unavailable", failure=failure.code)
        found = []
    return rows + [
        _suggestion(hit.full_name, hit.description, hit.private) for hit in found if hit.full_name not in known
    ]


def _suggestion(name: str, description: str, private: bool, row: Repository | None = None) -> dict[str, Any]:  # noqa: FBT001 - Internal.
    typed = row.clone_url if row is not None and row.provider != "github" else name
    return {"repo": typed, "full_name": name, "description": description[:200], "private": private}


def credential_for(workspace: Workspace, protocol: str, host: str, path: str) -> Credential | None:
    """What git in a workspace needs for that workspace's own repository; None where we have none or it needs none.

    The answer is the installation's own token: it is kept from workspaces of public repositories, whose code anybody
    may have written.
    """
    repository = workspace.repository
    if repository.visibility == "public":
        return None
    asked = (protocol, host.casefold(), _bare(path))
    for url in (repository.clone_url, workspace.clone_url):
        own = urlsplit(url)
        if asked == (own.scheme, own.netloc.casefold(), _bare(own.path)):
            return providers().credential(repository.clone_url)
    return None


def _bare(path: str) -> str:
    return path.strip("/").removesuffix(".git").casefold()


def local_folder(clone_url: str) -> Path | None:
    """The folder that a `file://` repository is read from; None for repositories that are elsewhere.

    Raises:
        Invalid: showing it to a workspace would show the platform's own data, or it is reached through a link.
    """
    parts = urlsplit(clone_url)
    if parts.scheme != "file":
        return None
    folder = Path(unquote(parts.path))
    shown = folder / ".git" if (folder / ".git").is_dir() else folder
    real, env = shown.resolve(), settings.ENVIRONMENT
    own = any(real.is_relative_to(home) or home.is_relative_to(real) for home in (env.home, env.run))
    if own or real != shown:
        raise Invalid(
            "repository_local_refused",
            "This folder cannot be used as a repository.",
            "Name the repository's real folder, outside of Slipway's own data."
            if own
            else f"Use file://{folder.resolve()}",
            field="repo",
        )
    return shown
