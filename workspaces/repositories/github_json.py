"""Reading GitHub's JSON: each value is checked, because the server may be anything that was put in GitHub's place."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, TypeVar

from workspaces.repositories.branch_names import is_branch_name
from workspaces.repositories.github_errors import unexpected
from workspaces.repositories.port import Branch, Suggestion, Visibility

T = TypeVar("T")

_FULL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*/(?!\.{1,2}$)[A-Za-z0-9._-]+", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_VISIBILITIES: dict[str, Visibility] = {"public": "public", "private": "private", "internal": "internal"}


@dataclasses.dataclass(frozen=True, slots=True)
class RepositoryFacts:
    """What is used of a repository's representation."""

    id: int
    full_name: str
    default_branch: str
    visibility: Visibility
    description: str
    size_kb: int


def field(document: Any, name: str, kind: type[T]) -> T:
    """A field of an object.

    Raises:
        ClusterFault: `github_answer_unexpected`, when it is missing or of another type.
    """
    value = document.get(name) if isinstance(document, dict) else None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise unexpected(f"{name} is missing or not of type {kind.__name__}")
    return value


def items(document: Any) -> list[Any]:
    """The document, if it is a list."""
    if not isinstance(document, list):
        raise unexpected("not a list")
    return document


def repository(document: Any) -> RepositoryFacts:
    """A repository, as `GET /repos/{owner}/{repo}` shows it."""
    default_branch = field(document, "default_branch", str)
    if not is_branch_name(default_branch):
        raise unexpected("default_branch is no branch name")
    private = field(document, "private", bool)
    # GitHub Enterprise Server has no `visibility` in old releases.
    visibility = _VISIBILITIES.get(str(document.get("visibility")), "private" if private else "public")
    return RepositoryFacts(
        id=field(document, "id", int),
        full_name=_full_name(document),
        default_branch=default_branch,
        visibility=visibility,
        description=str(document.get("description") or ""),
        size_kb=field(document, "size", int),
    )


def _full_name(document: Any) -> str:
    name = field(document, "full_name", str)
    if not _FULL_NAME.fullmatch(name):
        raise unexpected("full_name is no name")
    return name


def commit(text: str) -> str:
    """A full hash, SHA-1 or SHA-256."""
    if not _COMMIT.fullmatch(text):
        raise unexpected("not a commit hash")
    return text


def git_ref(document: Any) -> tuple[str, str]:
    """Name and target of a git reference."""
    return field(document, "ref", str), commit(field(field(document, "object", dict), "sha", str))


def branch(document: Any) -> Branch:
    """An element of a list of branches."""
    return Branch(field(document, "name", str), commit(field(field(document, "commit", dict), "sha", str)))


def languages(document: Any) -> dict[str, int]:
    """Bytes of code by language."""
    if not isinstance(document, dict):
        raise unexpected("languages is not an object")
    return {name: size for name, size in document.items() if isinstance(size, int)}


def suggestion(document: Any) -> Suggestion:
    """A search result."""
    return Suggestion(_full_name(document), str(document.get("description") or ""), field(document, "private", bool))
