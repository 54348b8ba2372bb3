"""How GitHub's REST API represents things: the part that `tests.support.github` serves.

The shapes are those of the OpenAPI description that GitHub publishes (npm `@octokit/openapi`);
`tests/repositories/test_github_schema.py` holds them against it.
"""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path
from typing import Any

DOCS = "https://docs.github.com/rest"


@dataclasses.dataclass
class Pull:
    """A pull request. `from_fork` puts its head into another repository."""

    number: int
    sha: str
    ref: str = "topic"
    state: str = "open"
    from_fork: bool = False


@dataclasses.dataclass
class Repository:
    """A repository on the fake GitHub. With `git_dir` its refs are read from there, each time."""

    id: int
    full_name: str
    private: bool = False
    default_branch: str = "main"
    branches: dict[str, str] = dataclasses.field(default_factory=dict)
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    pulls: dict[int, Pull] = dataclasses.field(default_factory=dict)
    languages: dict[str, int] = dataclasses.field(default_factory=dict)
    description: str | None = None
    size: int = 108
    git_dir: Path | None = None
    blocked: int = 0

    def refs(self, kind: str) -> dict[str, str]:
        """Name to hash of `heads` or `tags`, sorted by name."""
        if self.git_dir is not None:
            found = self._git("for-each-ref", f"refs/{kind}", "--format=%(objectname) %(refname)")
            pairs = (line.split(" ", 1) for line in found.splitlines())
            return {name.removeprefix(f"refs/{kind}/"): sha for sha, name in pairs}
        return dict(sorted((self.branches if kind == "heads" else self.tags).items()))

    def commit(self, name: str) -> str | None:
        """The full hash of a commit, by hash, abbreviation, branch or tag."""
        if self.git_dir is not None:
            return (
                self._git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}").strip() or None
            )
        named = {f"heads/{one}": sha for one, sha in self.branches.items()}
        named |= {f"tags/{one}": sha for one, sha in self.tags.items()}
        if name in named:
            return named[name]
        known = [*named.values(), *(pull.sha for pull in self.pulls.values())]
        return next((sha for sha in known if len(name) >= 4 and sha.startswith(name)), None)

    def _git(self, *arguments: str) -> str:
        command = ["git", "-c", "safe.directory=*", "--git-dir", str(self.git_dir), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def simple_user(login: str) -> dict[str, Any]:
    return {"login": login, "id": 1, "node_id": "MDQ6VXNlcjE=", "type": "Organization", "site_admin": False}


def repository(repo: Repository, *, api: str, web: str) -> dict[str, Any]:
    """The fields of "Full Repository" that somebody might use."""
    owner, name = repo.full_name.split("/")
    return {
        "id": repo.id,
        "node_id": "MDEwOlJlcG9zaXRvcnkx",
        "name": name,
        "full_name": repo.full_name,
        "owner": simple_user(owner),
        "private": repo.private,
        "visibility": "private" if repo.private else "public",
        "html_url": f"{web}/{repo.full_name}",
        "description": repo.description,
        "fork": False,
        "url": f"{api}/repos/{repo.full_name}",
        "languages_url": f"{api}/repos/{repo.full_name}/languages",
        "git_url": f"git://github.com/{repo.full_name}.git",
        "ssh_url": f"git@github.com:{repo.full_name}.git",
        "clone_url": f"{web}/{repo.full_name}.git",
        "default_branch": repo.default_branch,
        "language": next(iter(repo.languages), None),
        "size": repo.size,
        "archived": False,
        "disabled": False,
        "pushed_at": "2011-01-26T19:06:43Z",
        "created_at": "2011-01-26T19:01:12Z",
        "updated_at": "2011-01-26T19:14:43Z",
    }


def git_ref(repo: Repository, ref: str, sha: str, *, api: str) -> dict[str, Any]:
    base = f"{api}/repos/{repo.full_name}/git"
    target = {"type": "commit", "sha": sha, "url": f"{base}/commits/{sha}"}
    return {"ref": ref, "node_id": "MDM6UmVmMQ==", "url": f"{base}/{ref}", "object": target}


def short_branch(repo: Repository, name: str, sha: str, *, api: str) -> dict[str, Any]:
    url = f"{api}/repos/{repo.full_name}/commits/{sha}"
    return {"name": name, "commit": {"sha": sha, "url": url}, "protected": False}


def pull(repo: Repository, pull: Pull, *, api: str) -> dict[str, Any]:
    head_owner = "somebody-else" if pull.from_fork else repo.full_name.split("/")[0]
    url = f"{api}/repos/{repo.full_name}/pulls/{pull.number}"
    return {
        "id": pull.number,
        "node_id": "MDExOlB1bGxSZXF1ZXN0MQ==",
        "url": url,
        "number": pull.number,
        "state": pull.state,
        "locked": False,
        "title": "A change",
        "body": None,
        "head": {"label": f"{head_owner}:{pull.ref}", "ref": pull.ref, "sha": pull.sha},
        "base": {
            "label": f"{repo.full_name.split('/')[0]}:{repo.default_branch}",
            "ref": repo.default_branch,
            "sha": pull.sha,
        },
    }


def search(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "total_count": len(found),
        "incomplete_results": False,
        "items": [{**item, "score": 1.0} for item in found],
    }


def error(status: int, message: str) -> dict[str, Any]:
    return {"message": message, "documentation_url": DOCS, "status": str(status)}


def moved(url: str) -> dict[str, Any]:
    return {"message": "Moved Permanently", "url": url, "documentation_url": DOCS}
