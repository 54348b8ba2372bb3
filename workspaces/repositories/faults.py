"""Failures that every provider shares."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from kernel.errors import NotFound, UserFault


def empty_repository(name: str) -> UserFault:
    """The repository is there, but has no commit."""
    return UserFault(
        "repository_empty",
        f"{name} is empty: it has no commit yet.",
        "Push a first commit, then try again.",
        field="repo",
    )


def missing_branch(name: str, names: Sequence[str], default_branch: str) -> NotFound:
    """The repository is there, but has no such branch; names the most similar ones."""
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    meant = f"Did you mean {' or '.join(f'“{one}”' for one in close)}? " if close else ""
    return NotFound(
        "branch_not_found",
        f"There is no branch “{name}”.",
        f"{meant}Leave the branch empty for the default, “{default_branch}”.",
        field="branch",
    )
