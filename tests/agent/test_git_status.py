"""What is said of commits that exist only here, wherever the workspace comes from."""

from __future__ import annotations

from typing import Any

import pytest

from tests.agent.harness import Agent
from tests.support.git_http import GitServer
from tests.support.git_repos import git


def unpushed(agent: Agent) -> Any:
    """As it was reported last; None while it is not known."""
    return (agent.platform.reports[-1]["git"] or {}).get("unpushed") if agent.platform.reports else None


def commit(agent: Agent, *arguments: str) -> str:
    git("commit", "-q", "--allow-empty", "-m", "mine", *arguments, cwd=agent.folder)
    return git("rev-parse", "HEAD", cwd=agent.folder)


@pytest.mark.parametrize("kind", ["branch", "commit", "tag", "tag with commit", "pull"])
def test_commits_that_exist_only_here_are_counted(agent: Agent, git_server: GitServer, kind: str) -> None:
    repository = git_server.create_repository("app", {"a.txt": "one"})
    old = repository.head()
    # As releases often are: on no branch, so that no branch of the remote ever holds them.
    released = repository.commit({"a.txt": "released"}, branch="release")
    repository.ref("refs/tags/v1", released)
    repository.ref("refs/pull/5/head", released)
    git("update-ref", "-d", "refs/heads/release", cwd=repository.path)
    repository.commit({"a.txt": "two"})
    wanted: dict[str, Any] = {
        "branch": {},
        "commit": {"ref": "refs/heads/main", "branch": None, "commit": old},
        "tag": {"ref": "refs/tags/v1", "branch": None},
        "tag with commit": {"ref": "refs/tags/v1", "branch": None, "commit": released},
        "pull": {"ref": "refs/pull/5/head", "branch": None, "commit": released},
    }[kind]
    agent.start(repository, **wanted)
    agent.wait(lambda: "History, tags" in agent.text("clone"))
    agent.wait(lambda: unpushed(agent) == 0)

    mine = commit(agent)

    agent.wait(lambda: agent.platform.reports[-1]["git"]["head"] == mine)
    assert unpushed(agent) == 1
    # A tag of one's own is as local as what it points to.
    git("tag", "v2", cwd=agent.folder)
    git("checkout", "-q", "-b", "topic", cwd=agent.folder)
    commit(agent)
    agent.wait(lambda: unpushed(agent) == 2)


def test_first_commit_of_an_empty_repository_is_counted(agent: Agent, git_server: GitServer) -> None:
    agent.start(git_server.create_repository("app"))
    agent.wait(lambda: unpushed(agent) == 0)

    commit(agent)

    agent.wait(lambda: unpushed(agent) == 1)


def test_what_cannot_be_counted_is_not_known(agent: Agent, git_server: GitServer) -> None:
    agent.start(git_server.create_repository("app", {"a.txt": "x"}))
    agent.wait(lambda: unpushed(agent) == 0)

    # A damaged branch, which `git status` does not look at.
    git("checkout", "-q", "-b", "topic", cwd=agent.folder)
    lost = commit(agent)
    commit(agent)
    git("checkout", "-q", "main", cwd=agent.folder)
    (agent.folder / ".git" / "objects" / lost[:2] / lost[2:]).unlink()

    agent.wait(lambda: agent.platform.reports[-1]["git"] is None)
