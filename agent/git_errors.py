"""What git's last words mean: pure, from the text of its error output (in the C locale) to a problem."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agent.problems import Problem

# In order: a full disk also breaks the connection, and a refused sign-in also says that nothing could be read.
_RULES: tuple[tuple[str, str], ...] = (
    # Python's words, as there was nobody else to say it.
    ("git_missing", r"no such file or directory: 'git'"),
    ("disk_full", r"no space left on device|disk quota exceeded|unable to write file .*: quota"),
    ("protocol_not_allowed", r"transport '.*' not allowed|protocol .* is not allowed|attempted insecure"),
    (
        "repository_private",
        r"authentication failed|could not read (username|password)|terminal prompts disabled|access denied"
        r"|requested url returned error: 40[13]|permission denied \(|host key verification failed|invalid credentials",
    ),
    ("branch_not_found", r"couldn't find remote ref|remote branch .* not found|no such ref was fetched"),
    ("commit_not_found", r"not our ref|unadvertised object|reference is not a tree|no such remote ref [0-9a-f]{40}"),
    (
        "repository_not_found",
        r"repository .*not found|requested url returned error: 404|does not appear to be a git repository"
        r"|repository '.*' does not exist|not valid: is this a git repository",
    ),
    ("clone_stalled", r"operation too slow|timed out after|operation timed out"),
    (
        "network_unreachable",
        r"could not resolve (host|proxy)|failed to connect|couldn't connect|connection (refused|reset|timed out|closed)"
        r"|network is unreachable|no route to host|remote end hung up|early eof|rpc failed|recv failure|empty reply"
        r"|returned error: (5\d\d|429)|unexpected disconnect|ssl_|tls |certificate|fetch-pack: invalid index-pack",
    ),
)

_TEMPORARY = frozenset({"clone_stalled", "network_unreachable"})


def _words(code: str, name: str, ref: str) -> tuple[str, str]:
    return {
        "git_missing": (
            f"{name} could not be cloned: the workspace's image has no git.",
            "Ask your administrator for an image that has git in it. The editor works without.",
        ),
        "disk_full": (
            "There is no space left on the workspace's disk.",
            "Delete files in this workspace or ask for a larger disk, then start it again.",
        ),
        "protocol_not_allowed": (
            f"{name} uses a way of transfer that is not allowed here.",
            "Use an https or ssh address.",
        ),
        "repository_private": (
            f"{name} is private, and access to it was refused.",
            "Connect an account that may read it, or check that your access has not been withdrawn, then start again.",
        ),
        "branch_not_found": (
            f"{name} has no {ref}.",
            "It may have been renamed or deleted. Create a workspace from a branch that exists.",
        ),
        "commit_not_found": (
            f"{name} does not have that commit any more.",
            "Create a workspace from a branch instead.",
        ),
        "repository_not_found": (
            f"{name} was not found.",
            "Check the address for spelling, and that you have access to the repository.",
        ),
        "clone_stalled": (
            f"The transfer of {name} stood still and was given up.",
            "Start the workspace again in a moment. If it happens again, check the git server and the network.",
        ),
        "network_unreachable": (
            f"The git server of {name} could not be reached.",
            "Check that the address is right and the server is up, then start the workspace again.",
        ),
        "clone_failed": (
            f"{name} could not be cloned.",
            "The workspace's log has git's own words.",
        ),
    }[code]


def describe_ref(ref: str) -> str:
    """A ref in words: "branch “main”"."""
    for prefix, word in (("refs/heads/", "branch"), ("refs/tags/", "tag"), ("refs/pull/", "pull request")):
        if ref.startswith(prefix):
            short = ref.removeprefix(prefix)
            return f"{word} “{short.removesuffix('/head') if word == 'pull request' else short}”"
    return f"“{ref}”"


def problem(code: str, name: str, ref: str) -> Problem:
    """The problem of this code, worded for this repository."""
    message, next_step = _words(code, name, describe_ref(ref))
    return Problem(code, message, next_step, temporary=code in _TEMPORARY)


def classify(lines: Sequence[str], *, name: str, ref: str, stalled: bool = False) -> Problem:
    """What went wrong.

    Args:
        lines: what git said last.
        name, ref: repository and ref as the owner knows them.
        stalled: it was ended because nothing moved.
    """
    text = "\n".join(lines).lower()
    for code, pattern in _RULES:
        # A transfer that is ended for standing still complains that the connection broke.
        if re.search(pattern, text) and not (stalled and code == "network_unreachable"):
            return problem(code, name, ref)
    return problem("clone_stalled" if stalled else "clone_failed", name, ref)
