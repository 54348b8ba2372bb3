from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.github import GitHubServer

GIT_ENVIRONMENT = {
    "PATH": os.defpath,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
}


def git(folder: Path, *arguments: str, stdin: str = "") -> str:
    """Run git in a folder, untouched by the machine's settings; its output without the last line break."""
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=GIT_ENVIRONMENT, input=stdin, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def github() -> Iterator[GitHubServer]:
    with GitHubServer() as server:
        yield server


@pytest.fixture
def make_repository(tmp_path: Path) -> Callable[..., Path]:
    """Makes bare repositories with one commit and the branches named."""

    def make(name: str = "origin.git", *branches: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        git(folder, "init", "--quiet", "--bare", "--initial-branch=main")
        commit = git(folder, "commit-tree", "-m", "first", git(folder, "mktree"))
        for branch in ("main", *branches):
            git(folder, "update-ref", f"refs/heads/{branch}", commit)
        return folder

    return make
