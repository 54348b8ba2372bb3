"""The document that says what this run of the workspace is: parsed once, checked fully, frozen."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any, TypeVar

from agent.problems import Problem

T = TypeVar("T")

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_URL = re.compile(r"(https?|ssh|file)://[^\s]+")
# `user@host:path`, as git understands it, with an IPv6 address in brackets; the host may not look like an option.
_SCP_LIKE = re.compile(r"[A-Za-z0-9._~][A-Za-z0-9._~+-]*@([A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\]):[^:\s][^\s]*")
# https://git-scm.com/docs/git-check-ref-format
_BAD_IN_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|$)|^\.|[./]$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclasses.dataclass(frozen=True, slots=True)
class Repository:
    """Where the content comes from.

    Attributes:
        clone_url: http, https, ssh or file URL, or `user@host:path`.
        full_name: `owner/name`; its last part names the folder.
        ref: full name of what is wanted, or "HEAD" for the repository's default branch.
        branch: short name; None for a pull request or a bare commit.
        commit: hex id; checked out only when `branch` is None and `ref` is no pull request, because branches move on.
    """

    clone_url: str
    full_name: str
    ref: str
    branch: str | None
    commit: str | None

    @property
    def folder(self) -> str:
        """Name of the checkout's folder below the home; never a hidden one, where programs keep their own files."""
        name = self.full_name.rstrip("/").rsplit("/", 1)[-1]
        return f"repository{name}" if name.strip(".") and name.startswith(".") else name

    @property
    def is_local(self) -> bool:
        """It is on this machine: only then may git use the `file` protocol."""
        return self.clone_url.startswith("file://")


@dataclasses.dataclass(frozen=True, slots=True)
class DevCluster:
    """Where `kubectl` goes. `certificate_authority` is in PEM; empty where the server is publicly trusted."""

    server: str
    certificate_authority: str
    namespace: str


@dataclasses.dataclass(frozen=True, slots=True)
class Spec:
    """One run of one workspace. `report_interval` is in seconds, 1 to 300; `dev_cluster` may be None."""

    workspace_id: str
    slug: str
    run: int
    repository: Repository
    author_name: str
    author_email: str
    workspace_url: str
    port_url: str
    report_interval: float
    dev_cluster: DevCluster | None = None


def _invalid(path: str, problem: str) -> Problem:
    return Problem("spec_invalid", f"The workspace's description is not valid: {path} {problem}.")


def _get(document: dict[str, Any], path: str, kind: type[T]) -> T:
    value: Any = document
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _invalid(path, f"must be a {kind.__name__}")
    return value


def _text(document: dict[str, Any], path: str) -> str:
    value = _get(document, path, str)
    if not value or _CONTROL.search(value):
        raise _invalid(path, "is empty or has control characters")
    return value


def valid_ref(name: str) -> bool:
    """Whether git would accept this as the name of a branch or a full ref, and not as an option."""
    return bool(name) and not name.startswith("-") and name != "@" and not _BAD_IN_REF.search(name)


def _ref(document: dict[str, Any]) -> str:
    ref = _text(document, "repository.ref")
    if ref != "HEAD" and not (ref.startswith("refs/") and valid_ref(ref)):
        raise _invalid("repository.ref", "is not a full ref name")
    return ref


def _repository(document: dict[str, Any]) -> Repository:
    url = _text(document, "repository.clone_url")
    if not (_URL.fullmatch(url) or _SCP_LIKE.fullmatch(url)):
        raise _invalid("repository.clone_url", "is not an http, https, ssh or file URL")
    branch = (document["repository"]).get("branch")
    if branch is not None and not (isinstance(branch, str) and valid_ref(branch)):
        raise _invalid("repository.branch", "is not a branch name")
    commit = (document["repository"]).get("commit")
    if commit is not None and not (isinstance(commit, str) and _COMMIT.fullmatch(commit)):
        raise _invalid("repository.commit", "is not a full commit id")
    repository = Repository(url, _text(document, "repository.full_name"), _ref(document), branch, commit)
    if repository.folder in {"", ".", ".."}:
        raise _invalid("repository.full_name", "does not end in a usable folder name")
    return repository


def _dev_cluster(document: dict[str, Any]) -> DevCluster | None:
    if document.get("dev_cluster") is None:
        return None
    return DevCluster(
        server=_text(document, "dev_cluster.server"),
        certificate_authority=_get(document, "dev_cluster.certificate_authority", str),
        namespace=_text(document, "dev_cluster.namespace"),
    )


def parse(text: str | bytes) -> Spec:
    """Parse and check the document.

    Raises:
        Problem: `spec_invalid`, naming the field at fault.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise Problem("spec_invalid", "The workspace's description is not valid JSON.") from error
    if not isinstance(document, dict):
        raise _invalid("the document", "must be an object")
    interval = document.get("report_interval", 15)
    if not isinstance(interval, (int, float)):
        raise _invalid("report_interval", "must be a number")
    return Spec(
        workspace_id=_text(document, "workspace.id"),
        slug=_text(document, "workspace.slug"),
        run=_get(document, "run", int),
        repository=_repository(document),
        author_name=_get(document, "identity.name", str),
        author_email=_get(document, "identity.email", str),
        workspace_url=_text(document, "urls.workspace"),
        port_url=_text(document, "urls.port"),
        report_interval=min(max(float(interval), 1.0), 300.0),
        dev_cluster=_dev_cluster(document),
    )
