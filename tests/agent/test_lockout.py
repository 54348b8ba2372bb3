"""What must never keep the owner out: odd texts, a broken ~/.gitconfig, a full disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.agent.harness import Agent
from tests.support.git_http import GitServer
from tests.support.waiting import eventually


def test_texts_that_a_report_cannot_hold(agent: Agent, git_server: GitServer) -> None:
    branch = "/".join(["x" * 99] * 5)
    text = r"""{
        "onCreateCommand": {"a\u0000\u001b\ud800b": "exit 3"},
        "containerEnv": {"A": "\ud800"},
        "customizations": {
            "vscode": {"settings": {"a.b": "\udfff"}, "extensions": ["x\u0000\ud800.vsix", "LONG.id"]}
        }
    }"""
    repository = git_server.create_repository("app")
    repository.commit({".devcontainer.json": text.replace("LONG", "x" * 5_000)}, branch=branch)
    agent.start(repository, ref=f"refs/heads/{branch}", branch=branch)

    agent.wait_condition("ide", "done")
    commands = agent.wait_condition("commands", "failed")
    extensions = agent.wait_condition("extensions", "failed")

    assert commands["message"] == "onCreateCommand (a?b) ended with exit code 3."
    assert extensions["message"] == "Not installed: x?.vsix."
    agent.wait(lambda: agent.platform.reports[-1]["git"])
    assert agent.platform.reports[-1]["git"]["branch"] is None
    assert len(agent.platform.reports[-1]["git"]["head"]) == 40
    assert "extensions_skipped" in agent.platform.notices
    assert agent.platform.refused == []


def test_name_that_is_no_text_is_told(agent: Agent, git_server: GitServer) -> None:
    agent.start(git_server.create_repository("app", {".devcontainer.json": r'{"containerEnv": {"\ud800": "x"}}'}))

    agent.wait_condition("ide", "done")
    assert "bad entry “?”" in agent.wait_condition("commands", "failed")["message"]


@pytest.mark.parametrize("fault", ["loop", "folder"])
def test_unusable_gitconfig_does_not_lock_the_owner_out(agent: Agent, git_server: GitServer, fault: str) -> None:
    repository = git_server.create_repository("app", {"a.txt": "x"})
    agent.start(repository)
    agent.wait_condition("ide", "done")
    agent.stop()
    agent.platform.reports.clear()
    path = agent.home / ".gitconfig"
    path.unlink()
    path.symlink_to(path) if fault == "loop" else path.mkdir()

    agent.start(repository)

    agent.wait_condition("ide", "done")
    agent.wait(lambda: "gitconfig_unusable" in agent.platform.notices)
    said = [notice for report in agent.platform.reports for notice in report["notices"]]
    assert "restart the workspace" in said[0]["message"]
    assert [record["level"] for record in agent.log() if record.get("event") == "gitconfig_unusable"] == ["warning"]
    assert path.is_symlink() or path.is_dir()
    assert list(agent.home.glob(".gitconfig.*")) == []


def test_unreadable_devcontainer_does_not_lock_the_owner_out(agent: Agent, git_server: GitServer) -> None:
    repository = git_server.create_repository("app", {".devcontainer/devcontainer.json": "{}"})
    agent.start(repository)
    agent.wait_condition("commands", "done")
    agent.stop()
    agent.platform.reports.clear()
    folder = agent.folder / ".devcontainer"
    folder.chmod(0)
    agent.prefix = without_override()
    try:
        agent.start(repository)

        agent.wait_condition("ide", "done")
        commands = agent.wait_condition("commands", "failed")
        assert commands["code"] == "devcontainer_invalid"
        assert "cannot be read (Permission denied)" in commands["message"]
        assert agent.platform.condition("content")["status"] == "done"
    finally:
        folder.chmod(0o755)


def test_damaged_files_of_the_editor_do_not_lock_the_owner_out(agent: Agent, git_server: GitServer) -> None:
    repository = git_server.create_repository("app", {".devcontainer.json": '{"containerEnv": {"A": "x"}}'})
    agent.start(repository)
    agent.wait_condition("commands", "done")
    agent.stop()
    agent.platform.reports.clear()
    known = list((agent.state / "ide").rglob("*.json"))
    for path in known:
        path.write_text('{"a": ' + "[" * 100_000)

    agent.start(repository)

    agent.wait_condition("ide", "done")
    agent.wait_condition("commands", "done")
    assert {"environment.json", "applied-settings.json"} <= {path.name for path in known}


def test_full_disk_does_not_lock_the_owner_out(agent: Agent, git_server: GitServer) -> None:
    text = '{"containerEnv": {"A": "x"}, "customizations": {"vscode": {"settings": {"a": 1}}}}'
    repository = git_server.create_repository("app", {".devcontainer.json": text})
    with small_disk(agent):
        agent.start(repository)
        agent.wait_condition("commands", "done")
        agent.wait(lambda: "History, tags" in agent.text("clone"))
        agent.stop()
        agent.platform.reports.clear()
        (agent.home / ".gitconfig").write_text("")
        (agent.folder / ".devcontainer.json").write_text(text.replace("1", "2").replace("x", "y"))
        with (agent.home / "full").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)

        agent.start(repository)

        agent.wait_condition("ide", "done")
        agent.wait(lambda: {"gitconfig_unusable", "settings_unwritable"} <= set(agent.platform.notices))
        assert agent.stop() == 0


def test_disk_full(agent: Agent, git_server: GitServer) -> None:
    with small_disk(agent):
        agent.start(git_server.create_repository("app", {"big.bin": os.urandom(3_000_000)}))
        condition = agent.wait_condition("content", "failed")
        assert condition["code"] == "disk_full"
        assert condition["next_step"]
        assert list(agent.home.glob(".slipway-clone-*")) == []
        assert agent.stop() == 0


def without_override() -> list[str]:
    """A command that takes away what lets root read everything."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv, to be refused a file although this is root")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@contextlib.contextmanager
def small_disk(agent: Agent) -> Iterator[None]:
    """The home and, below it, the state, on a disk of 1 MiB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root, to mount a small disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(agent.home)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a small disk")
    agent.state = agent.home / ".state"
    agent.env["SLIPWAY_STATE_DIR"] = str(agent.state)
    try:
        yield
    finally:
        agent.close_processes()
        # What was ended by force may hold its folder for a moment longer.
        unmount = ["umount", str(agent.home)]
        eventually(lambda: subprocess.run(unmount, check=False, capture_output=True).returncode == 0)
