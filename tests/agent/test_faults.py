"""What goes wrong in a start: always told in words, nothing lost, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.agent.harness import Agent
from tests.support.git_http import Credentials, GitServer
from tests.support.git_repos import git, with_submodule
from workspaces.runtime.port import REFUSED

PRIVATE = Credentials("bot", "s3cret-value")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"postCreateCommand": ', "is not valid"),
        ('{"postCreateCommand": 7}', "postCreateCommand that is neither text"),
        ('{"containerEnv": {"A B": "x"}}', "containerEnv with a bad entry"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "[" * 600 + "]" * 600 + "}", "nested too deeply"),
        ('{"a": "' + "x" * 300_000 + '"}', "larger than 256 KiB"),
    ],
)
def test_broken_devcontainer_is_told_and_the_editor_opens(
    agent: Agent, git_server: GitServer, text: str, words: str
) -> None:
    agent.start(git_server.create_repository("app", {".devcontainer/devcontainer.json": text}))

    agent.wait_condition("ide", "done")
    condition = agent.wait_condition("commands", "failed")

    assert condition["code"] == "devcontainer_invalid"
    assert words in condition["message"]
    assert "restart the workspace" in condition["next_step"]


def test_failing_command_stops_the_chain_and_is_told(agent: Agent, git_server: GitServer) -> None:
    text = """{
        "onCreateCommand": "echo once >> created",
        "postCreateCommand": {"good": "echo fine", "bad": ["sh", "-c", "echo oh no >&2; exit 7"]},
        "postStartCommand": "touch started",
    }"""
    repository = git_server.create_repository("app", {".devcontainer.json": text})
    agent.start(repository)

    agent.wait_condition("ide", "done")
    condition = agent.wait_condition("commands", "failed")

    assert (condition["code"], condition["message"]) == (
        "command_failed",
        "postCreateCommand (bad) ended with exit code 7.",
    )
    assert condition["next_step"]
    assert "[bad] oh no" in agent.text("postCreateCommand")
    assert [record["exit_code"] for record in agent.log() if record.get("event") == "command_failed"] == [7]
    assert not (agent.folder / "started").exists()
    agent.stop()
    (agent.folder / ".devcontainer.json").write_text(text.replace("exit 7", "exit 0"))
    agent.platform.reports.clear()
    agent.start(repository)
    agent.wait_condition("commands", "done")
    assert (agent.folder / "started").exists()
    assert (agent.folder / "created").read_text() == "once\n"


def test_endless_command_does_not_hold_the_editor_back(agent: Agent, git_server: GitServer) -> None:
    text = '{"postCreateCommand": "while :; do echo tick; sleep 0.2; done"}'
    agent.start(git_server.create_repository("app", {".devcontainer.json": text}))

    agent.wait_condition("ide", "done")
    condition = agent.wait_condition("commands", "running")
    agent.wait(lambda: "tick\ntick" in agent.text("postCreateCommand"))

    assert condition["message"] == "Running postCreateCommand"
    assert agent.stop() == 0
    assert agent.processes() == []
    assert agent.platform.condition("commands")["status"] == "running"


def test_clone_that_stalls_is_tried_again_and_given_up(agent: Agent, git_server: GitServer) -> None:
    agent.env["SLIPWAY_AGENT_STALL"] = "0.5"
    repository = git_server.create_repository("app", {"big.bin": os.urandom(400_000)})
    git_server.stall_after(50_000)
    agent.start(repository)

    condition = agent.wait_condition("content", "failed", timeout=30)

    assert condition["code"] == "clone_stalled"
    assert condition["next_step"]
    assert git_server.requests["git-upload-pack"] >= 3
    assert not agent.folder.exists()
    assert list(agent.home.glob(".slipway-clone-*")) == []


def test_clone_that_stalls_once_goes_through(agent: Agent, git_server: GitServer) -> None:
    agent.env["SLIPWAY_AGENT_STALL"] = "0.5"
    repository = git_server.create_repository("app", {"big.bin": os.urandom(400_000)})
    git_server.stall_after(50_000)
    agent.start(repository)
    agent.wait(git_server.stalled.is_set)

    git_server.go_on()

    agent.wait_condition("content", "done", timeout=30)


def test_server_that_fails_for_a_moment(agent: Agent, git_server: GitServer) -> None:
    repository = git_server.create_repository("app", {"a.txt": "x"})
    git_server.fail_next(503, 2)
    agent.start(repository)

    agent.wait_condition("content", "done")

    assert [record["event"] for record in agent.log() if record.get("event") == "clone_retry"] == ["clone_retry"] * 2


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"ref": "refs/heads/nö-such", "branch": "nö-such"}, "branch_not_found", "branch “nö-such”"),
        ({"ref": "refs/pull/9/head", "branch": None}, "branch_not_found", "pull request “9”"),
        ({"clone_url": "{url}/missing.git"}, "repository_not_found", "was not found"),
        ({"clone_url": "{url}/private.git"}, "repository_private", "is private"),
        ({"clone_url": "http://127.0.0.1:1/x.git"}, "network_unreachable", "could not be reached"),
        ({"clone_url": "ssh://git@127.0.0.1:1/x.git"}, "network_unreachable", "could not be reached"),
        ({"branch": None, "commit": "1" * 40}, "commit_not_found", "does not have that commit"),
    ],
)
def test_what_cannot_be_cloned(
    agent: Agent, git_server: GitServer, change: dict[str, str | None], code: str, words: str
) -> None:
    repository = git_server.create_repository("app", {"a.txt": "x"})
    git_server.create_repository("private", {"a.txt": "x"}, credentials=PRIVATE)
    agent.start(repository, **{key: value and value.format(url=git_server.url) for key, value in change.items()})

    condition = agent.wait_condition("content", "failed")

    assert condition["code"] == code
    assert words in condition["message"]
    assert condition["next_step"]
    assert not agent.folder.exists()
    assert agent.stop() == 0


@pytest.mark.parametrize(
    "change",
    [
        {"clone_url": "ext::sh -c 'touch pwned'"},
        {"clone_url": "--upload-pack=touch pwned"},
        {"ref": "refs/heads/a..b"},
        {"ref": "--all"},
        {"full_name": "team/.."},
        {"commit": "main; touch pwned"},
    ],
)
def test_what_is_no_repository_is_refused_at_once(agent: Agent, change: dict[str, str]) -> None:
    agent.start("https://example.invalid/x.git", **change)

    assert agent.process is not None
    assert agent.process.wait(10) == REFUSED
    assert agent.log()[-1]["event"] == "spec_invalid"
    assert not (agent.home / "pwned").exists()


def test_private_repository_with_credentials_from_the_platform(agent: Agent, git_server: GitServer) -> None:
    repository = git_server.create_repository("app", {"a.txt": "x"}, credentials=PRIVATE)
    agent.platform.credentials[git_server.netloc] = (PRIVATE.username, PRIVATE.password)
    agent.start(repository)

    agent.wait_condition("content", "done")

    assert agent.platform.asked[0] == {"protocol": "http", "host": git_server.netloc, "path": "app.git"}
    # The agent's own fetch would hold git's locks, and its files would come and go where this reads.
    agent.wait(lambda: "History, tags" in agent.text("clone"))
    env = {"HOME": str(agent.home), "PATH": os.environ["PATH"], "GIT_TERMINAL_PROMPT": "0"}
    subprocess.run(["git", "fetch"], cwd=agent.folder, env=env, check=True)
    agent.stop()
    everything = "".join(
        path.read_text(errors="replace")
        for root in (agent.home, agent.state)
        for path in root.rglob("*")
        if path.is_file()
    )
    assert PRIVATE.password not in everything + agent.text()


def test_submodules_with_relative_urls_and_none_from_the_disk(
    agent: Agent, git_server: GitServer, tmp_path: Path
) -> None:
    library = git_server.create_repository("team/lib", {"lib.txt": "library"})
    secret = git_server.create_repository("team/secret", {"s.txt": "s"})
    repository = git_server.create_repository("team/app", {"a.txt": "x"})
    with_submodule(repository, "lib", "../lib.git", library.head())
    agent.start(repository)
    agent.wait_condition("content", "done")
    assert (agent.folder / "lib" / "lib.txt").read_text() == "library"
    agent.stop()

    other = Agent(tmp_path / "other")
    try:
        with_submodule(repository, "evil", secret.path.as_uri(), secret.head())
        other.start(repository)
        other.wait_condition("ide", "done")
        other.wait(lambda: "submodules_failed" in other.platform.notices)
        assert not (other.folder / "evil" / "s.txt").exists()
    finally:
        other.close()


def test_killed_in_the_middle_of_a_clone_and_started_again(agent: Agent, git_server: GitServer) -> None:
    repository = git_server.create_repository("app", {"big.bin": os.urandom(400_000), "a.txt": "x"})
    git_server.stall_after(50_000)
    agent.start(repository)
    agent.wait(git_server.stalled.is_set)
    assert agent.process is not None
    agent.process.kill()
    agent.process.wait(10)
    assert list(agent.home.glob(".slipway-clone-*")) != []
    agent.folder.mkdir()
    (agent.folder / "mine.txt").write_text("made in the meantime")

    git_server.go_on()
    agent.start(repository)

    agent.wait_condition("ide", "done")
    assert (agent.folder / "a.txt").read_text() == "x"
    assert git("status", "--porcelain", cwd=agent.folder) == ""
    assert (agent.home / "app.kept-1" / "mine.txt").read_text() == "made in the meantime"
    assert "folder_kept" in agent.platform.notices
    agent.wait(lambda: list(agent.home.glob(".slipway-clone-*")) == [])


def test_killed_between_rename_and_marker(agent: Agent, git_server: GitServer) -> None:
    repository = git_server.create_repository("app", {"a.txt": "x"})
    agent.start(repository)
    agent.wait_condition("ide", "done")
    agent.stop()
    (agent.folder / "mine.txt").write_text("work")
    (agent.state / "content.json").unlink()
    agent.platform.reports.clear()

    agent.start(repository)
    agent.wait_condition("ide", "done")

    assert (agent.folder / "mine.txt").read_text() == "work"
    assert list(agent.home.glob("app.kept-*")) == []


def test_editor_that_dies_is_started_again_and_told(agent: Agent, git_server: GitServer) -> None:
    agent.start(git_server.create_repository("app", {"a.txt": "x"}))
    agent.wait_condition("ide", "done")
    first = _editor_pid(agent)

    os.kill(first, signal.SIGKILL)

    agent.wait(lambda: "ide_restarted" in agent.platform.notices)
    agent.wait(lambda: len([record for record in agent.log() if record.get("event") == "ide_ready"]) == 2)
    agent.wait_condition("ide", "done")
    agent.wait(lambda: _editor_pid(agent) != first)


def test_editor_that_never_starts(agent: Agent, git_server: GitServer) -> None:
    agent.env["STAND_IN_FAILS"] = "1"
    agent.start(git_server.create_repository("app", {"a.txt": "x"}))

    condition = agent.wait_condition("ide", "failed", timeout=30)

    assert condition["code"] == "ide_keeps_failing"
    assert agent.platform.condition("content")["status"] == "done"
    assert agent.stop() == 0


def test_editor_that_is_not_installed(agent: Agent, git_server: GitServer) -> None:
    agent.env["SLIPWAY_IDE"] = "/nonexistent/entry.js"
    agent.start(git_server.create_repository("app", {"a.txt": "x"}))

    assert agent.wait_condition("ide", "failed")["code"] == "ide_missing"


def test_platform_away_and_back(agent: Agent, git_server: GitServer) -> None:
    agent.platform.close()
    agent.start(git_server.create_repository("app", {".devcontainer.json": '{"image": "x"}'}))
    agent.wait(lambda: any(record.get("event") == "ide_ready" for record in agent.log()))
    assert agent.platform.reports == []

    agent.platform.open()

    agent.wait_condition("ide", "done")
    agent.wait(lambda: "image_ignored" in agent.platform.notices)
    agent.wait(lambda: agent.platform.reports[-1]["notices"] == [])
    assert len([record for record in agent.log() if record.get("event") == "report_failed"]) == 1


def test_refused_reports_do_not_end_the_workspace(agent: Agent, git_server: GitServer) -> None:
    agent.platform.status = 409
    agent.start(git_server.create_repository("app", {"a.txt": "x"}))

    agent.wait(lambda: any(record.get("event") == "ide_ready" for record in agent.log()))

    assert agent.stop() == 0


def test_stop_while_the_platform_hangs(agent: Agent, git_server: GitServer) -> None:
    agent.start(git_server.create_repository("app", {"a.txt": "x"}))
    agent.wait_condition("ide", "done")
    agent.platform.hangs.set()
    count = len(agent.platform.reports)
    agent.wait(lambda: len(agent.platform.reports) > count)

    assert agent.stop() == 0

    assert agent.processes() == []


def test_second_signal_is_quicker(agent: Agent, git_server: GitServer) -> None:
    agent.env["SLIPWAY_AGENT_COMMAND_GRACE"] = "60"
    text = '{"postCreateCommand": "trap : TERM; while :; do sleep 1; done"}'
    agent.start(git_server.create_repository("app", {".devcontainer.json": text}))
    agent.wait_condition("commands", "running")
    assert agent.process is not None
    agent.process.send_signal(signal.SIGTERM)
    agent.wait(lambda: any(record.get("event") == "stopping" for record in agent.log()))

    assert agent.stop() == 0

    assert agent.processes() == []


def _editor_pid(agent: Agent) -> int:
    lines = [record["text"] for record in agent.log("ide") if record["text"].startswith("serving, pid")]
    return int(lines[-1].split()[2].rstrip(","))
