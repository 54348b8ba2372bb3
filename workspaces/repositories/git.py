"""Repositories behind any https, http, ssh or file address, through `git ls-remote`."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kernel.errors import Failure, Invalid, TooMany
from workspaces.repositories import git_errors, hosts, redirects
from workspaces.repositories.branch_names import is_branch_name, validate_branch
from workspaces.repositories.faults import empty_repository, missing_branch
from workspaces.repositories.git_process import Git
from workspaces.repositories.hosts import Server
from workspaces.repositories.parse import parse
from workspaces.repositories.port import (
    Branch,
    Credential,
    RepositoryMetadata,
    RepositoryRef,
    Resolved,
    Suggestion,
)
from workspaces.repositories.processes import Output, TimedOutError

MAX_REFS = 50_000
"""Branches and tags looked at. The Linux kernel has about a thousand, the largest known monorepos some ten thousand."""

MOST_AT_ONCE = 8
"""Questions under way in one process, each with its tree of processes and what it buffers (`git_process`)."""

_WAIT_FOR_TURN = 1.0  # Seconds.
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, slots=True)
class _Listing:
    """What ls-remote printed, the address that printed it, and whether there was more."""

    clone_url: str
    text: str
    cut: bool


@dataclasses.dataclass(frozen=True, slots=True)
class _Refs:
    """What ls-remote found: branch heads by name, where HEAD points to, the address, and whether there was more."""

    clone_url: str
    heads: Mapping[str, str]
    default_branch: str
    cut: bool


class GitProvider:
    """Implements `port.Provider`.

    Args:
        home: a folder of ours for git; see `git_process.Git`.
        allow_file: whether file URLs, so folders of this machine, may be read.
        blocked_hosts: patterns (`*` and `?`) of names and addresses that are never asked; see `hosts.check`.
        timeout: seconds for one question.
    """

    def __init__(
        self,
        *,
        home: Path,
        allow_file: bool = False,
        blocked_hosts: Sequence[str] = (),
        timeout: float = 10.0,
    ) -> None:
        protocols = ["https", "http", "ssh", *(["file"] if allow_file else [])]
        self._git = Git(protocols, home, connect_timeout=max(1, int(timeout) - 1))
        self._blocked = tuple(blocked_hosts)
        self._timeout = timeout
        self._turns = threading.BoundedSemaphore(MOST_AT_ONCE)

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
        commit = refs.heads.get(name) or (self._one(refs.clone_url, name) if refs.cut else None)
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
        listing = self._ls_remote(ref.clone_url, "HEAD", "refs/heads/*", max_lines=MAX_REFS)
        heads: dict[str, str] = {}
        default = head = ""
        for line in listing.text.splitlines():
            commit, _, name = line.partition("\t")
            if name == "HEAD" and commit.startswith("ref: "):
                default = commit.removeprefix("ref: ").removeprefix("refs/heads/")
            elif name == "HEAD":
                head = commit
            elif name.startswith("refs/heads/") and _COMMIT.fullmatch(commit):
                short = name.removeprefix("refs/heads/")
                if is_branch_name(short):
                    heads[short] = commit
        default = default if default in heads else _guess_default(heads, head)
        return _Refs(listing.clone_url, heads, default, listing.cut)

    def _one(self, clone_url: str, branch: str) -> str | None:
        for line in self._ls_remote(clone_url, f"refs/heads/{branch}", max_lines=100).text.splitlines():
            commit, _, name = line.partition("\t")
            if name == f"refs/heads/{branch}" and _COMMIT.fullmatch(commit):
                return commit
        return None

    def _ls_remote(self, clone_url: str, *patterns: str, max_lines: int) -> _Listing:
        with self._turn():
            question = _Question(self._git, patterns, max_lines, time.monotonic() + self._timeout, self._blocked)
            try:
                clone_url, output = question.follow(clone_url)
            except TimedOutError as error:
                raise git_errors.timed_out() from error
        if output.code:
            raise git_errors.failure(output.stderr.replace(clone_url, ""))
        return _Listing(clone_url, output.stdout, output.cut)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=_WAIT_FOR_TURN):
            raise TooMany(
                "repositories_busy",
                "Too many repositories are being looked up at the moment.",
                "Try again in a few seconds.",
                retry_after=3,
                field="repo",
            )
        try:
            yield
        finally:
            self._turns.release()


@dataclasses.dataclass(frozen=True, slots=True)
class _Question:
    """One question, put to as many addresses as it takes, until a time by `time.monotonic`."""

    git: Git
    patterns: Sequence[str]
    max_lines: int
    deadline: float
    blocked: Sequence[str]

    def allowed(self, clone_url: str) -> list[str]:
        """Options for asking this address; see `hosts.check`, also for what is raised."""
        return hosts.check(Server.of(clone_url), blocked=self.blocked, timeout=self._left())

    def follow(self, clone_url: str) -> tuple[str, Output]:
        """The answer, whatever it is, and the address that gave it: this one, or this one with `.git` behind it."""
        options = self.allowed(clone_url)
        while redirects.refused((output := self.ask(clone_url, options)).stderr):
            target = self.target(clone_url, options)
            # GitLab has each repository at an address with the suffix, and redirects those who leave it out.
            if clone_url.endswith(".git") or target != f"{clone_url}.git":
                raise git_errors.redirected(target)
            clone_url = target
        return clone_url, output

    def ask(self, clone_url: str, options: Sequence[str], *, trace: bool = False) -> Output:
        """The answer, whatever it is."""
        arguments = [*options, "ls-remote", "--symref", "--", clone_url, *self.patterns]
        return self.git.run(arguments, timeout=self._left(), max_lines=self.max_lines, trace=trace)

    def target(self, clone_url: str, options: Sequence[str]) -> str:
        """Where the server redirects to, as it would be understood if it had been typed; empty where it is refused."""
        named = redirects.target(self.ask(clone_url, options, trace=True).stderr, clone_url)
        try:
            found = parse(named, allow_file=False).clone_url
            self.allowed(found)
        except Failure:
            return ""
        return found

    def _left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())


def _guess_default(heads: Mapping[str, str], head: str) -> str:
    """For a HEAD that names no branch that exists: one at the same commit, else the usual names, else the first."""
    same = [name for name, commit in heads.items() if commit == head]
    usual = [name for name in ("main", "master", "trunk", "develop") if name in heads]
    return next(iter([*same, *usual, *heads]), "")


def _metadata(ref: RepositoryRef, refs: _Refs) -> RepositoryMetadata:
    url = refs.clone_url
    is_web = url.startswith(("https://", "http://"))
    return RepositoryMetadata(
        provider="git",
        external_id=url,
        full_name=ref.full_name,
        clone_url=url,
        web_url=url.removesuffix(".git") if is_web else "",
        default_branch=refs.default_branch,
        visibility="unknown",
        description="",
        languages={},
        size_kb=None,
        head_commit=refs.heads.get(refs.default_branch, ""),
    )
