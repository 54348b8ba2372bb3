"""The editor's process: whose variables it gets, and how it is asked whether it is up."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.agent.harness import Agent
from tests.support.git_http import GitServer
from tests.support.git_repos import Repository

ORDERS = {
    "VSCODE_IPC_HOOK_CLI": "/tmp/nothing.sock",
    "CODE_SERVER_PARENT_PID": "1",
    "NODE_OPTIONS": "--nonsense",
    "ELECTRON_RUN_AS_NODE": "0",
    "LD_PRELOAD": "/nonexistent.so",
}


def environment_of(agent: Agent) -> dict[str, str]:
    """The variables of the editor that was started last."""
    said = [record["text"] for record in agent.log("ide") if record["text"].startswith("serving, pid")]
    data = Path("/proc", said[-1].split()[2].rstrip(","), "environ").read_text()
    return dict(line.split("=", 1) for line in data.split("\0") if line)


def start_twice(agent: Agent, git_server: GitServer, variables: dict[str, str]) -> Repository:
    """The editor starts before the repository is there, so it has the repository's variables the second time."""
    text = json.dumps({"containerEnv": variables})
    repository = git_server.create_repository("app", {".devcontainer.json": text})
    agent.start(repository)
    agent.wait_condition("ide", "done")
    agent.wait(lambda: agent.platform.condition("commands")["status"] in {"done", "failed"})
    agent.stop()
    agent.platform.reports.clear()
    agent.start(repository)
    return repository


def test_variables_that_are_orders_to_the_editor_do_not_reach_it(agent: Agent, git_server: GitServer) -> None:
    start_twice(agent, git_server, {**ORDERS, "GREETING": "hello", "PATHS": "/a:/b"})

    agent.wait_condition("ide", "done")

    variables = environment_of(agent)
    assert variables["GREETING"] == "hello"
    assert variables["VSCODE_PROXY_URI"] == "http://{{port}}-app-x1y2.localhost/"
    assert not ORDERS.keys() & variables.keys()
    settings = json.loads((agent.state / "ide" / "data" / "Machine" / "settings.json").read_text())
    assert settings["terminal.integrated.env.linux"].items() >= ORDERS.items()
    assert "variables_left_out" not in agent.platform.notices


@pytest.mark.parametrize("variables", [{"STAND_IN_FAILS": "1"}, {"BIG": "x" * 140_000}])
def test_editor_that_ends_with_the_repositorys_variables_starts_without(
    agent: Agent, git_server: GitServer, variables: dict[str, str]
) -> None:
    repository = start_twice(agent, git_server, {**variables, "GREETING": "hello"})

    agent.wait_condition("ide", "done")

    assert "GREETING" not in environment_of(agent)
    agent.wait(lambda: "variables_left_out" in agent.platform.notices)
    assert "ide_restarted" not in agent.platform.notices
    agent.stop()
    agent.platform.reports.clear()
    (agent.folder / ".devcontainer.json").write_text('{"containerEnv": {"GREETING": "hello again"}}')
    agent.start(repository)
    agent.wait_condition("commands", "done")
    agent.stop()
    agent.platform.reports.clear()
    agent.start(repository)
    agent.wait_condition("ide", "done")
    assert environment_of(agent)["GREETING"] == "hello again"


def test_variables_that_no_process_can_have(agent: Agent, git_server: GitServer) -> None:
    repository = git_server.create_repository("app", {"a.txt": "x"})
    agent.start(repository)
    agent.wait_condition("commands", "done")
    agent.stop()
    agent.platform.reports.clear()
    (agent.state / "ide" / "environment.json").write_text(r'{"A": "\u0000"}')

    agent.start(repository)

    agent.wait_condition("ide", "done")
    agent.wait(lambda: "variables_left_out" in agent.platform.notices)


def test_editor_that_answers_with_an_error_is_asked_again_at_a_calm_pace(
    agent: Agent, git_server: GitServer, tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    asked.touch()
    agent.env["STAND_IN_REFUSES"] = str(asked)
    began = time.monotonic()
    agent.start(git_server.create_repository("app", {"a.txt": "x"}))
    agent.wait(lambda: asked.stat().st_size >= 3)

    assert asked.stat().st_size <= 1 + (time.monotonic() - began) / 0.5

    asked.unlink()
    agent.wait_condition("ide", "done")
