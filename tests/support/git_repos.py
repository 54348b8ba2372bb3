"""Real git repositories for tests, made by git itself."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

_ENV = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.com",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.com",
    "GIT_ALLOW_PROTOCOL": "file:http:https",
}


def git(*arguments: str, cwd: Path) -> str:
    """Run git, without the machine's configuration; returns what it printed.

    Raises:
        subprocess.CalledProcessError: git said no.
    """
    command = ["git", *arguments]
    return subprocess.run(command, cwd=cwd, env=_ENV, check=True, capture_output=True, text=True).stdout.strip()


def write(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files below a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


@dataclasses.dataclass(frozen=True, slots=True)
class Repository:
    """A bare repository."""

    path: Path
    url: str

    def commit(self, files: Mapping[str, str | bytes], *, branch: str = "main", message: str = "change") -> str:
        """Add a commit on top of a branch, which is made from main where it is new. Returns the commit's id."""
        with tempfile.TemporaryDirectory() as name:
            work = Path(name) / "work"
            git("init", "-q", "-b", branch, str(work), cwd=self.path)
            git("remote", "add", "origin", str(self.path), cwd=work)
            git("fetch", "-q", "origin", cwd=work)
            known = git("branch", "-r", "--format=%(refname)", cwd=work).splitlines()
            for base in (branch, "main"):
                if f"refs/remotes/origin/{base}" in known:
                    git("reset", "-q", "--hard", f"origin/{base}", cwd=work)
                    break
            write(work, files)
            git("add", "-A", "--force", cwd=work)
            git("commit", "-q", "--allow-empty", "-m", message, cwd=work)
            git("push", "-q", "origin", f"HEAD:refs/heads/{branch}", cwd=work)
            return git("rev-parse", "HEAD", cwd=work)

    def ref(self, name: str, commit: str) -> None:
        """Let a ref point to a commit: `refs/pull/5/head`, `refs/tags/v1`."""
        git("update-ref", name, commit, cwd=self.path)

    def head(self, branch: str = "main") -> str:
        """Id of a branch's tip."""
        return git("rev-parse", f"refs/heads/{branch}", cwd=self.path)


def create(
    path: Path,
    files: Mapping[str, str | bytes] | None,
    *,
    branches: Mapping[str, Mapping[str, str | bytes]],
    url: str = "",
) -> Repository:
    """Make a bare repository with `main` and further branches; with None for files it stays empty."""
    path.mkdir(parents=True)
    git("init", "-q", "--bare", "-b", "main", cwd=path)
    git("config", "uploadpack.allowFilter", "true", cwd=path)
    git("config", "uploadpack.allowReachableSHA1InWant", "true", cwd=path)
    repository = Repository(path, url or path.as_uri())
    if files is not None:
        repository.commit(files, message="first")
        for branch, added in branches.items():
            repository.commit(added, branch=branch)
    return repository


def with_submodule(repository: Repository, where: str, url: str, commit: str) -> str:
    """Commit a submodule to main without fetching it. Returns the commit's id."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name) / "work"
        git("clone", "-q", str(repository.path), str(work), cwd=Path(name))
        write(work, {".gitmodules": f'[submodule "{where}"]\n\tpath = {where}\n\turl = {url}\n'})
        git("add", ".gitmodules", cwd=work)
        git("update-index", "--add", "--cacheinfo", f"160000,{commit},{where}", cwd=work)
        git("commit", "-q", "-m", "submodule", cwd=work)
        git("push", "-q", "origin", "HEAD:refs/heads/main", cwd=work)
        return git("rev-parse", "HEAD", cwd=work)
