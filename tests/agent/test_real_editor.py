"""The agent with code-server itself."""

from __future__ import annotations

import json
import os
import signal
import zipfile
from io import BytesIO

import pytest

from agent.transport import get_status
from tests.agent.harness import Agent
from tests.support.git_http import GitServer
from tests.support.processes import command_of

pytestmark = [pytest.mark.ide, pytest.mark.timeout(300)]

DEVCONTAINER = """{
    // What people write.
    "containerEnv": {"GREETING": "hello from ${localWorkspaceFolderBasename}"},
    "postCreateCommand": "echo $GREETING > greeting.txt",
    "customizations": {"vscode": {"settings": {"editor.tabSize": 7},
        "extensions": ["tools/hello.vsix", "some.gallery"]}},
}"""


def extension() -> bytes:
    """The smallest .vsix that VS Code takes."""
    manifest = {"name": "hello", "publisher": "tests", "version": "1.0.0", "engines": {"vscode": "^1.80.0"}}
    package = (
        '<?xml version="1.0"?><PackageManifest Version="2.0.0"'
        ' xmlns="http://schemas.microsoft.com/developer/vsx-schema/2011"><Metadata>'
        '<Identity Language="en-US" Id="hello" Version="1.0.0" Publisher="tests"/></Metadata></PackageManifest>'
    )
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("extension.vsixmanifest", package)
        archive.writestr("extension/package.json", json.dumps(manifest))
    return buffer.getvalue()


def servers(agent: Agent) -> list[int]:
    """Processes of code-server."""
    return [pid for pid in agent.processes() if "entry" in command_of(pid)]


def test_from_repository_to_editor(real_agent: Agent, git_server: GitServer) -> None:
    agent = real_agent
    files: dict[str, str | bytes] = {"tools/hello.vsix": extension(), ".devcontainer/devcontainer.json": DEVCONTAINER}
    agent.start(git_server.create_repository("app", files))

    agent.wait_condition("content", "done", 60)
    agent.wait_condition("ide", "done", 60)
    agent.wait_condition("commands", "done", 60)
    extensions = agent.wait_condition("extensions", "done", 60)

    address = f"unix:{agent.run_dir / 'ide.sock'}"
    assert get_status(address, f"/?folder={agent.folder}", timeout=20) == 200
    assert (agent.folder / "greeting.txt").read_text() == "hello from app\n"
    data = agent.state / "ide" / "data"
    assert json.loads((data / "Machine" / "settings.json").read_text())["editor.tabSize"] == 7
    assert json.loads((data / "User" / "settings.json").read_text())["chat.disableAIFeatures"] is True
    assert list((agent.state / "ide" / "extensions").glob("tests.hello-1.0.0*")) != []
    assert "some.gallery" in extensions["message"]
    assert "extensions_skipped" in agent.platform.notices
    assert "http://{{port}}-app-x1y2.localhost/" in agent.text("ide")
    for source in ("ide", "extensions"):
        assert "bindings" not in agent.text(source)

    for pid in servers(agent)[:1]:
        os.kill(pid, signal.SIGKILL)
    agent.wait(lambda: "ide_restarted" in agent.platform.notices)
    agent.wait_condition("ide", "done", 60)
    assert get_status(address, f"/?folder={agent.folder}", timeout=20) == 200

    assert agent.stop() == 0
    assert agent.processes() == []


@pytest.mark.parametrize(
    "variables",
    [
        {"VSCODE_IPC_HOOK_CLI": "/tmp/nothing.sock", "CODE_SERVER_PARENT_PID": "1", "NODE_OPTIONS": "--nonsense"},
        {"OPENSSL_CONF": "/dev/null/nothing", "BIG": "x" * 140_000},
    ],
)
def test_the_repositorys_variables_do_not_keep_the_editor_from_starting(
    real_agent: Agent, git_server: GitServer, variables: dict[str, str]
) -> None:
    agent = real_agent
    text = json.dumps({"containerEnv": variables})
    repository = git_server.create_repository("app", {".devcontainer.json": text})
    agent.start(repository)
    agent.wait_condition("ide", "done", 60)
    agent.wait_condition("commands", "done", 60)
    agent.stop()
    agent.platform.reports.clear()

    agent.start(repository)

    agent.wait_condition("ide", "done", 60)
    agent.wait(lambda: ("variables_left_out" in agent.platform.notices) == ("BIG" in variables))
    assert "ide_restarted" not in agent.platform.notices
