"""The editor's process: how it is asked whether it is up."""

from __future__ import annotations

import time
from pathlib import Path

from tests.agent.harness import Agent
from tests.support.git_http import GitServer


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
