"""From a repository to an open editor, as the platform sees it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import textwrap
from pathlib import Path

import pytest

from tests.agent.harness import Agent
from tests.support.git_http import GitServer
from tests.support.git_repos import git
from tests.support.processes import command_of


def sh(script: str) -> str:
    """A devcontainer.json with one command, commented as people do."""
    return '{ // ours\n "postCreateCommand": ' + script + ",\n}"


@pytest.mark.parametrize("can_filter", ["true", "false"])
def test_clone_opens_and_then_the_history_follows(agent: Agent, git_server: GitServer, can_filter: str) -> None:
    repository = git_server.create_repository("app", {"a.txt": "one"}, branches={"other": {"b.txt": "b"}})
    for text in ("two", "three"):
        repository.commit({"a.txt": text})
    repository.ref("refs/tags/v1", repository.head())
    git("config", "uploadpack.allowFilter", can_filter, cwd=repository.path)
    agent.start(repository)

    content = agent.wait_condition("content", "done")
    agent.wait_condition("ide", "done")

    assert content["message"] == "Cloned team/app"
    assert content["started_ago"] >= content["finished_ago"] >= 0
    assert (agent.folder / "a.txt").read_text() == "three"
    agent.wait(lambda: "History, tags" in agent.text("clone"))
    assert git("rev-list", "--count", "HEAD", cwd=agent.folder) == "3"
    assert git("tag", cwd=agent.folder) == "v1"
    assert "origin/other" in git("branch", "-r", cwd=agent.folder)
    assert git("rev-parse", "--abbrev-ref", "main@{upstream}", cwd=agent.folder) == "origin/main"


def test_what_a_report_holds(agent: Agent, git_server: GitServer) -> None:
    repository = git_server.create_repository("app", {"a.txt": "one"})
    agent.start(repository)
    agent.wait_condition("ide", "done")
    (agent.folder / "new.txt").write_text("mine")
    agent.wait(lambda: (agent.platform.reports[-1]["git"] or {}).get("uncommitted") == 1)

    reports = list(agent.platform.reports)
    last = reports[-1]

    assert [item["type"] for item in last["conditions"]] == ["content", "ide", "commands", "extensions"]
    head = {"branch": "main", "head": repository.head(), "ahead": 0, "behind": 0, "uncommitted": 1, "unpushed": 0}
    assert last["git"] == head
    assert set(last["activity"]) == {"editor", "terminal", "processes", "ports"}
    assert [report["sequence"] for report in reports] == list(range(1, last["sequence"] + 1))


def test_unicode_everywhere(agent: Agent, git_server: GitServer) -> None:
    repository = git_server.create_repository("app", {"a.txt": "x"})
    repository.commit(
        {"dír/ünï 🐎.txt": "✓", ".devcontainer.json": sh('"echo grüße && printf \\"\\\\377\\\\n\\""')},
        branch="größe/🐎",
    )
    agent.start(repository, full_name="team/プロジェクト", ref="refs/heads/größe/🐎", branch="größe/🐎")

    agent.wait_condition("ide", "done")
    agent.wait_condition("commands", "done")

    assert (agent.home / "プロジェクト" / "dír" / "ünï 🐎.txt").read_text() == "✓"
    assert "grüße\n\ufffd" in agent.text("postCreateCommand")
    agent.wait(lambda: (agent.platform.reports[-1]["git"] or {}).get("branch") == "größe/🐎")


@pytest.mark.parametrize("kind", ["pull", "commit", "tag", "default"])
def test_other_things_to_check_out(agent: Agent, git_server: GitServer, kind: str) -> None:
    repository = git_server.create_repository("app", {"a.txt": "one"})
    old = repository.head()
    new = repository.commit({"a.txt": "pull"}, branch="topic")
    repository.ref("refs/pull/5/head", new)
    repository.ref("refs/tags/v1", old)
    repository.commit({"a.txt": "two"})
    wanted = {
        "pull": {"ref": "refs/pull/5/head", "branch": None},
        "commit": {"ref": "refs/heads/main", "branch": None, "commit": old},
        "tag": {"ref": "refs/tags/v1", "branch": None},
        "default": {"ref": "HEAD", "branch": None},
    }[kind]
    agent.start(repository, **wanted)

    agent.wait_condition("content", "done")

    expected = {"pull": ("pull", "pull/5"), "commit": ("one", ""), "tag": ("one", ""), "default": ("two", "main")}
    text, branch = expected[kind]
    assert (agent.folder / "a.txt").read_text() == text
    assert git("branch", "--show-current", cwd=agent.folder) == branch


def test_empty_repository_opens(agent: Agent, git_server: GitServer) -> None:
    agent.start(git_server.create_repository("app"))

    agent.wait_condition("ide", "done")

    assert git("symbolic-ref", "HEAD", cwd=agent.folder) == "refs/heads/main"
    agent.wait(lambda: "repository_empty" in agent.platform.notices)


def test_identity_is_set_and_the_users_own_wins(agent: Agent, git_server: GitServer) -> None:
    (agent.home / ".gitconfig").write_text("[user]\n\temail = own@example.com\n")
    agent.start(git_server.create_repository("app", {"a.txt": "x"}))
    agent.wait_condition("content", "done")

    def asked(name: str) -> str:
        env = {"HOME": str(agent.home), "PATH": os.environ["PATH"]}
        command = ["git", "config", name]
        return subprocess.run(command, env=env, cwd=agent.folder, capture_output=True, text=True, check=True).stdout

    assert asked("user.name") == "Ada Lövelace\n"
    assert asked("user.email") == "own@example.com\n"


def test_a_restart_keeps_what_the_user_did(agent: Agent, git_server: GitServer) -> None:
    repository = git_server.create_repository("app", {"a.txt": "one", ".devcontainer.json": sh('"echo x >> ran"')})
    agent.start(repository)
    agent.wait_condition("commands", "done")
    (agent.folder / "mine.txt").write_text("work")
    (agent.folder / "a.txt").write_text("changed")
    repository.commit({"a.txt": "theirs"})
    assert agent.stop() == 0
    agent.platform.reports.clear()

    agent.start(repository)
    agent.wait_condition("ide", "done")
    agent.wait_condition("commands", "done")

    assert (agent.folder / "mine.txt").read_text() == "work"
    assert (agent.folder / "a.txt").read_text() == "changed"
    assert (agent.folder / "ran").read_text() == "x\n"
    assert agent.platform.condition("content")["message"] == "team/app is as you left it"


@pytest.mark.parametrize("marker", ["done", "killed"])
def test_a_renamed_repository_keeps_its_folder(agent: Agent, git_server: GitServer, marker: str) -> None:
    repository = git_server.create_repository("app", {"a.txt": "one", ".devcontainer.json": sh('"echo x >> ran"')})
    agent.start(repository)
    agent.wait_condition("commands", "done")
    (agent.folder / "mine.txt").write_text("work")
    assert agent.stop() == 0
    if marker == "killed":
        # What stands there when the agent dies right after the checkout was put in its place.
        (agent.state / "content.json").write_text(json.dumps({"folder": str(agent.folder), "status": "placing"}))
    (agent.state / "lifecycle.json").unlink()
    agent.platform.reports.clear()
    agent.log_path.unlink()

    agent.start(repository, full_name="team/renamed")
    agent.wait_condition("ide", "done")
    agent.wait_condition("commands", "done")

    assert sorted(path.name for path in agent.home.iterdir() if not path.name.startswith(".")) == ["app"]
    assert (agent.folder / "mine.txt").read_text() == "work"
    assert (agent.folder / "ran").read_text() == "x\nx\n"
    assert agent.platform.condition("content")["message"] == "team/renamed is as you left it"
    assert f"opens {agent.folder}\n" in agent.text("ide") + "\n"
    assert f'directory = "{agent.folder}"' in (agent.state / "gitconfig").read_text()
    agent.wait(lambda: (agent.platform.reports[-1]["git"] or {}).get("uncommitted") == 2)


def test_a_renamed_repository_whose_folder_is_gone_is_cloned(agent: Agent, git_server: GitServer) -> None:
    repository = git_server.create_repository("app", {"a.txt": "one"})
    agent.start(repository)
    agent.wait_condition("ide", "done")
    agent.stop()
    shutil.rmtree(agent.folder)
    agent.platform.reports.clear()

    agent.start(repository, full_name="team/renamed")
    agent.wait_condition("ide", "done")

    assert (agent.home / "renamed" / "a.txt").read_text() == "one"
    assert not agent.folder.exists()


def test_stop_leaves_no_process(agent: Agent, git_server: GitServer) -> None:
    script = '"setsid sh -c \\"trap : TERM; while :; do sleep 1; done\\" & sleep 1000"'
    agent.start(git_server.create_repository("app", {".devcontainer.json": sh(script)}))
    agent.wait_condition("commands", "running")
    agent.wait(lambda: len(agent.processes()) >= 4)

    assert agent.stop() == 0

    assert agent.processes() == []
    assert agent.log()[-1]["event"] == "stopped"
    assert not any(record["level"] == "error" for record in agent.log())


def test_ports_of_the_workspace_can_be_reached_and_others_cannot(agent: Agent, git_server: GitServer) -> None:
    server = textwrap.dedent("""
        import http.server, pathlib
        server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
        pathlib.Path("port").write_text(str(server.server_port))
        server.serve_forever()
    """)
    files: dict[str, str | bytes] = {
        "server.py": server,
        "big.bin": b"x" * 3_000_000,
        ".devcontainer.json": sh('"python3 server.py"'),
    }
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        agent.start(git_server.create_repository("app", files))
        agent.wait(lambda: agent.platform.reports and agent.platform.reports[-1]["ports"])
        noted = agent.folder / "port"
        port = int(agent.wait(lambda: noted.exists() and noted.read_text()))

        assert agent.platform.reports[-1]["ports"] == [port]
        assert foreign.getsockname()[1] not in agent.platform.reports[-1]["ports"]
        path = agent.run_dir / "ports" / f"{port}.sock"
        assert _get(path, "/big.bin") == (200, 3_000_000)

        for pid in agent.processes():
            if "server.py" in command_of(pid):
                # The shell around it may be among them, and end with it.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        agent.wait(lambda: agent.platform.reports[-1]["ports"] == [])
        assert not path.exists()


def _get(path: Path, url: str) -> tuple[int, int]:
    connection = http.client.HTTPConnection("localhost", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(10)
    connection.sock.connect(str(path))
    connection.request("GET", url)
    response = connection.getresponse()
    size = len(response.read())
    connection.close()
    return response.status, size
