"""The repository port: what a place that keeps repositories can be asked.

A `RepositoryRef` is what somebody typed, understood but not looked up; a `Resolved` is what the provider found there.
Providers raise `kernel.errors` and nothing else. No answer is never read as "there is no such repository": that is
`NotFound` only where the server said so, and `ClusterFault` where it could not be asked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal, Protocol

ProviderName = Literal["github", "git"]
RevisionKind = Literal["default", "branch", "commit", "pull", "tree_path"]
Visibility = Literal["public", "private", "internal", "unknown"]


@dataclasses.dataclass(frozen=True, slots=True)
class Revision:
    """Which state of the repository was asked for.

    Attributes:
        kind: `default` is the default branch; `pull` a pull request's number; `commit` 7 to 64 hex digits; `tree_path`
            the end of a GitHub page's address: a branch, tag or commit that may be followed by a path in it.
        value: empty for `default`.
    """

    kind: RevisionKind = "default"
    value: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class RepositoryRef:
    """What was asked for. Safe to hand to git: never begins with a dash, never names another transport.

    Attributes:
        clone_url: https, http, ssh or file URL, or `user@host:path`; without credentials.
        full_name: `owner/name` on GitHub, else the decoded path without `.git`. Its last part names the checkout.
    """

    provider: ProviderName
    clone_url: str
    full_name: str
    revision: Revision = Revision()


@dataclasses.dataclass(frozen=True, slots=True)
class RepositoryMetadata:
    """What is known about a repository.

    Attributes:
        external_id: the provider's own id, stable across renames; the clone URL where there is no such id.
        web_url: page for people; empty where there is none.
        languages: bytes of code by language; empty where unknown.
        size_kb: as the provider counts it; None where unknown.
        head_commit: of the default branch.
        moved_from: the name that was asked for, where the repository has another one by now.
    """

    provider: ProviderName
    external_id: str
    full_name: str
    clone_url: str
    web_url: str
    default_branch: str
    visibility: Visibility
    description: str
    languages: Mapping[str, int]
    size_kb: int | None
    head_commit: str
    moved_from: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Resolved:
    """A repository and the state of it to check out.

    Attributes:
        ref: what to fetch, such as `refs/heads/main`, `refs/tags/v1` or `refs/pull/5/head`. For a commit it is the
            default branch, and `commit` may lie outside of it.
        branch: the branch to be on; None means detached at `commit`.
        commit: full hash that `ref` (or the commit asked for) had when asked; None where it cannot be known.
    """

    metadata: RepositoryMetadata
    ref: str
    branch: str | None
    commit: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Branch:
    """A branch, without `refs/heads/`, and its head."""

    name: str
    commit: str


@dataclasses.dataclass(frozen=True, slots=True)
class Suggestion:
    """A repository that may be the one the user is typing."""

    full_name: str
    description: str
    private: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Credential:
    """User name and password for git over https."""

    username: str
    password: str = dataclasses.field(repr=False)


class Provider(Protocol):
    """A place that keeps repositories. Safe to use from several threads."""

    def resolve(self, ref: RepositoryRef, *, branch: str | None = None) -> Resolved:
        """Look the repository up, and the state asked for.

        Args:
            branch: wins over the revision in `ref`; None or empty for what `ref` says.

        Raises:
            Invalid: `branch_invalid`, `revision_unsupported`, or an address that may not be used.
            NotFound: `repository_not_found`, `branch_not_found`, `commit_not_found`, `pull_request_not_found`.
            UserFault: `repository_empty`, `repository_host_unknown`.
            Forbidden: known, but not for us.
            TooMany: the provider limits our requests; `retry_after` says for how long.
            ClusterFault: the provider could not be asked, or did not answer sensibly.
        """
        ...

    def branches(self, ref: RepositoryRef, *, query: str = "", limit: int = 50) -> list[Branch]:
        """Up to `limit` branches whose name contains `query`, those that begin with it first. Raises as `resolve`."""
        ...

    def search(self, query: str, *, limit: int = 10) -> list[Suggestion]:
        """Repositories that match what is being typed; empty where the provider has no search."""
        ...

    def credential(self, clone_url: str) -> Credential | None:
        """What git needs to read this repository over https, where we have it."""
        ...
