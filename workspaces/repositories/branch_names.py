"""Which names a branch may have: the rules of git-check-ref-format(1), https://git-scm.com/docs/git-check-ref-format."""

from __future__ import annotations

import re

from kernel.errors import Invalid

MAX_BRANCH_BYTES = 255
"""Git has no limit of its own; file systems, GitHub and our column have this one."""

# Rules 4, 5 and 10: control characters, space, ~ ^ : ? * [ and the backslash.
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\\ud800-\udfff]")


def validate_branch(name: str) -> str:
    """The name without surrounding blanks, if git would take it for a branch.

    Raises:
        Invalid: `branch_invalid`, with the rule that is broken.
    """
    name = name.strip(" \t\r\n")
    problem = _problem(name)
    if problem:
        raise Invalid(
            "branch_invalid",
            f"This cannot be the name of a branch: {problem}.",
            "Check the name, or leave it empty for the default branch.",
            field="branch",
        )
    return name


def is_branch_name(name: str) -> bool:
    """Whether `validate_branch` would take the name as it is."""
    return not _problem(name)


def _problem(name: str) -> str:
    if not name:
        return "it is empty"
    if _FORBIDDEN.search(name):
        return "it contains a space or one of the characters git reserves"
    if len(name.encode()) > MAX_BRANCH_BYTES:
        return f"it is longer than {MAX_BRANCH_BYTES} bytes"
    if name.startswith("-"):
        return "it begins with a dash"
    if name in {"@", "HEAD"}:
        return "git reserves it"
    return _sequence_problem(name)


def _sequence_problem(name: str) -> str:
    if ".." in name or "@{" in name:
        return "it contains “..” or “@{”"
    if name.endswith("."):
        return "it ends with a dot"
    for part in name.split("/"):
        if not part:
            return "it begins or ends with a slash, or has two in a row"
        if part.startswith(".") or part.endswith(".lock"):
            return "a part of it begins with a dot or ends with “.lock”"
    return ""
