"""Repositories behind any https, http, ssh or file address, through `git ls-remote`."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import socket
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import urlsplit

from kernel.errors import Forbidden, Invalid
from workspaces.repositories import git_errors
from workspaces.repositories.branch_names import is_branch_name, validate_branch
from workspaces.repositories.faults import empty_repository, missing_branch
from workspaces.repositories.git_process import Git, TimedOutError
from workspaces.repositories.port import (
    Branch,
    Credential,
    RepositoryMetadata,
    RepositoryRef,
    Resolved,
    Suggestion,
)

BLOCKED_HOSTS = ("169.254.*", "metadata.google.internal", "metadata.goog", "fd00:ec2::254", "100.100.100.200")
"""Cloud metadata services, which give out credentials of the machine we run on."""

MAX_REFS = 50_000
"""Branches and tags looked at. The Linux kernel has about a thousand, the largest known monorepos some ten thousand."""

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, slots=True)
class _Refs:
    """What ls-remote found: branch heads by name, where HEAD points to, and whether there was more."""

    heads: Mapping[str, str]
    default_branch: str
    cut: bool


class GitProvider:
    """Implements `port.Provider`.

    Args:
        home: a folder of ours for git; see `git_process.Git`.
        allow_file: whether file URLs, so folders of this machine, may be read.
        blocked_hosts: patterns (`*` and `?`) of host names and addresses that are never asked. They are compared with
            what stands in the address, in any spelling of an IP address; a name in public DNS that points to a blocked
            address, or a redirect there, has to be stopped by the network (an egress policy).
        timeout: seconds for one question.
    """

    def __init__(
        self,
        *,
        home: Path,
        allow_file: bool = False,
        blocked_hosts: Sequence[str] = BLOCKED_HOSTS,
        timeout: float = 10.0,
    ) -> None:
        protocols = ["https", "http", "ssh", *(["file"] if allow_file else [])]
        self._git = Git(protocols, home, connect_timeout=max(1, int(timeout) - 1))
        self._blocked = [pattern.casefold().strip("[]") for pattern in blocked_hosts]
        self._timeout = timeout

    def resolve(self, ref: RepositoryRef, *, branch: str | None = None) -> Resolved:
        """See `port.Provider`. A commit must be given in full, and is not checked: git has no way to ask for it."""
        kind, value = ref.revision.kind, ref.revision.value
        if branch and branch.strip():
            kind, value = "branch", validate_branch(branch)
        refs = self._refs(ref)
        if not refs.heads:
            raise empty_repository(ref.full_name)
        metadata = _metadata(ref, refs)
        if kind == "commit" and _COMMIT.fullmatch(value):
            return Resolved(metadata, f"refs/heads/{refs.default_branch}", None, value)
        if kind not in {"default", "branch"}:
            raise Invalid(
                "revision_unsupported",
                "For this server, only branches can be named.",
                "Give the repository's address and choose a branch.",
                field="repo",
            )
        name = value or refs.default_branch
        commit = refs.heads.get(name) or (self._one(ref, name) if refs.cut else None)
        if commit is None:
            raise missing_branch(name, list(refs.heads), refs.default_branch)
        return Resolved(metadata, f"refs/heads/{name}", name, commit)

    def branches(self, ref: RepositoryRef, *, query: str = "", limit: int = 50) -> list[Branch]:
        """See `port.Provider`."""
        refs, wanted = self._refs(ref), query.strip().casefold()
        found = [Branch(name, commit) for name, commit in refs.heads.items() if wanted in name.casefold()]
        found.sort(key=lambda one: (one.name != refs.default_branch, not one.name.casefold().startswith(wanted)))
        return found[:limit]

    def search(self, query: str, *, limit: int = 10) -> list[Suggestion]:
        """Nothing: git servers have no common search."""
        del query, limit
        return []

    def credential(self, clone_url: str) -> Credential | None:
        """Nothing: no access is configured for servers other than GitHub."""
        del clone_url
        return None

    def _refs(self, ref: RepositoryRef) -> _Refs:
        text, cut = self._ls_remote(ref, "HEAD", "refs/heads/*", max_lines=MAX_REFS)
        heads: dict[str, str] = {}
        default = head = ""
        for line in text.splitlines():
            commit, _, name = line.partition("\t")
            if name == "HEAD" and commit.startswith("ref: "):
                default = commit.removeprefix("ref: ").removeprefix("refs/heads/")
            elif name == "HEAD":
                head = commit
            elif name.startswith("refs/heads/") and _COMMIT.fullmatch(commit):
                short = name.removeprefix("refs/heads/")
                if is_branch_name(short):
                    heads[short] = commit
        return _Refs(heads, default if default in heads else _guess_default(heads, head), cut)

    def _one(self, ref: RepositoryRef, branch: str) -> str | None:
        text, _ = self._ls_remote(ref, f"refs/heads/{branch}", max_lines=100)
        for line in text.splitlines():
            commit, _, name = line.partition("\t")
            if name == f"refs/heads/{branch}" and _COMMIT.fullmatch(commit):
                return commit
        return None

    def _ls_remote(self, ref: RepositoryRef, *patterns: str, max_lines: int) -> tuple[str, bool]:
        self._check_host(ref.clone_url)
        try:
            output = self._git.run(
                ["ls-remote", "--symref", "--", ref.clone_url, *patterns], timeout=self._timeout, max_lines=max_lines
            )
        except TimedOutError as error:
            raise git_errors.timed_out() from error
        if output.code:
            raise git_errors.failure(output.stderr.replace(ref.clone_url, ""))
        return output.stdout, output.cut

    def _check_host(self, clone_url: str) -> None:
        spellings = _spellings(_host(clone_url))
        if any(fnmatchcase(host, pattern) for host in spellings for pattern in self._blocked):
            raise Forbidden(
                "repository_host_blocked",
                "This server may not be used for repositories here.",
                "Use another server, or ask the administrator to allow it.",
                field="repo",
            )


def _host(clone_url: str) -> str:
    if "://" in clone_url:
        return (urlsplit(clone_url).hostname or "").casefold().rstrip(".")
    return clone_url.partition("@")[2].partition(":")[0].casefold().rstrip(".")


def _spellings(host: str) -> list[str]:
    """The host and, where it is an IP address in any notation that the C library takes, its usual form."""
    found = [host]
    try:
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        try:
            address = ipaddress.IPv6Address(host.strip("[]"))
        except ValueError:
            return found
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return [*found, str(address)]


def _guess_default(heads: Mapping[str, str], head: str) -> str:
    """For a HEAD that names no branch that exists: one at the same commit, else the usual names, else the first."""
    same = [name for name, commit in heads.items() if commit == head]
    usual = [name for name in ("main", "master", "trunk", "develop") if name in heads]
    return next(iter([*same, *usual, *heads]), "")


def _metadata(ref: RepositoryRef, refs: _Refs) -> RepositoryMetadata:
    is_web = ref.clone_url.startswith(("https://", "http://"))
    return RepositoryMetadata(
        provider="git",
        external_id=ref.clone_url,
        full_name=ref.full_name,
        clone_url=ref.clone_url,
        web_url=ref.clone_url.removesuffix(".git") if is_web else "",
        default_branch=refs.default_branch,
        visibility="unknown",
        description="",
        languages={},
        size_kb=None,
        head_commit=refs.heads.get(refs.default_branch, ""),
    )
