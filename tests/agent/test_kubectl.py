"""kubectl inside a workspace: how it finds the dev cluster, and gets a token."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent import kubernetes_credential, spec
from agent.problems import Problem
from tests.agent.harness import Agent
from tests.support.git_http import GitServer

CLUSTER = {"server": "https://api.dev.example.com:6443", "certificate_authority": "PEM", "namespace": "dev-app"}
GIVEN = {"token": "kube-token-1", "expires_in": 900}


@pytest.fixture
def started(agent: Agent, git_server: GitServer) -> Agent:
    """An agent of a workspace with a dev cluster, and a folder of tools with a program that tells what it sees."""
    agent.dev_cluster = CLUSTER
    agent.platform.cluster_answers = [(200, GIVEN)]
    tools = agent.short / "tools" / "bin"
    tools.mkdir(parents=True)
    (tools / "our-kubectl").write_text('#!/bin/sh\necho "ours $KUBECONFIG"\n')
    (tools / "our-kubectl").chmod(0o755)
    agent.env["SLIPWAY_TOOLS"] = str(tools.parent)
    content = {".devcontainer.json": json.dumps({"postCreateCommand": "our-kubectl > ~/seen; echo done >> ~/seen"})}
    agent.start(git_server.create_repository("app", content))
    return agent


def plugin_of(agent: Agent) -> dict[str, Any]:
    document = json.loads((agent.run_dir / "kubeconfig").read_text())
    found: dict[str, Any] = document["users"][0]["user"]["exec"]
    return found


def ask(agent: Agent) -> subprocess.CompletedProcess[str]:
    """Run the plugin as kubectl does: with the user's environment and what the file adds."""
    plugin = plugin_of(agent)
    variables = {name: value for name, value in agent.env.items() if not name.startswith(("SLIPWAY_", "PYTHON"))}
    added = {one["name"]: one["value"] for one in plugin["env"]}
    command = [plugin["command"], *plugin["args"]]
    return subprocess.run(
        command, env={**variables, **added}, capture_output=True, text=True, check=False, cwd="/", timeout=60
    )


def test_what_the_user_finds(started: Agent) -> None:
    started.wait_condition("commands", "done")
    ours, theirs = started.run_dir / "kubeconfig", started.home / ".kube" / "config"
    assert (started.home / "seen").read_text() == f"ours {theirs}:{ours}\ndone\n"
    document = json.loads(ours.read_text())
    assert document["contexts"][0]["context"]["namespace"] == "dev-app"
    assert document["clusters"][0]["cluster"]["server"] == CLUSTER["server"]
    assert "token-1" not in ours.read_text()
    assert json.loads(theirs.read_text()) == {"apiVersion": "v1", "kind": "Config"}
    assert stat.S_IMODE(theirs.stat().st_mode) == 0o600


def test_what_the_user_has_stays(agent: Agent, git_server: GitServer) -> None:
    theirs = agent.home / ".kube" / "config"
    theirs.parent.mkdir()
    theirs.write_text("# mine\n")
    agent.dev_cluster = CLUSTER
    bin_folder = agent.short / "bin"
    bin_folder.mkdir()
    (bin_folder / "kubectl").write_text("#!/bin/sh\necho mine $KUBECONFIG\n")
    (bin_folder / "kubectl").chmod(0o755)
    agent.env |= {"PATH": f"{bin_folder}:{os.environ['PATH']}", "SLIPWAY_TOOLS": "/nonexistent", "KUBECONFIG": "/a:/b"}
    content = {".devcontainer.json": json.dumps({"postCreateCommand": "kubectl > ~/seen"})}
    agent.start(git_server.create_repository("app", content))
    agent.wait_condition("commands", "done")
    assert theirs.read_text() == "# mine\n"
    assert (agent.home / "seen").read_text() == f"mine /a:/b:{agent.run_dir}/kubeconfig\n"


def test_without_a_dev_cluster_nothing_is_there(agent: Agent, git_server: GitServer) -> None:
    content = {".devcontainer.json": json.dumps({"postCreateCommand": "echo -$KUBECONFIG- > ~/seen"})}
    agent.start(git_server.create_repository("app", content))
    agent.wait_condition("commands", "done")
    assert (agent.home / "seen").read_text() == "--\n"
    assert not (agent.home / ".kube").exists()
    assert not (agent.run_dir / "kubeconfig").exists()


def test_a_home_that_cannot_take_it_keeps_nobody_out(agent: Agent, git_server: GitServer) -> None:
    (agent.home / ".kube").write_text("a file")
    agent.dev_cluster = CLUSTER
    agent.start(git_server.create_repository("app", {"a.txt": "x"}))
    agent.wait_condition("ide", "done")
    agent.wait(lambda: "kubeconfig_unwritable" in agent.platform.notices)


def test_a_credential_is_handed_on_and_kept_for_a_minute(started: Agent) -> None:
    started.wait_condition("ide", "done")
    for _ in range(2):
        done = ask(started)
        assert (done.returncode, done.stderr) == (0, "")
        document = json.loads(done.stdout)
        assert document["kind"] == "ExecCredential"
        assert document["status"]["token"] == "kube-token-1"
    assert started.platform.cluster_asked == 1
    cache = started.run_dir / "kubernetes-credential.json"
    assert stat.S_IMODE(cache.stat().st_mode) == 0o600
    assert [path.name for path in started.run_dir.glob(".*")] == []


def open_files(pid: int) -> list[str]:
    try:
        return [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []


def test_side_by_side_one_asks_for_all(started: Agent) -> None:
    started.wait_condition("ide", "done")
    platform = started.platform
    platform.cluster_open.clear()
    lock = str(started.run_dir / "kubernetes-credential.json.lock")

    def in_line() -> int:
        return sum(lock in open_files(child.pid) for child in psutil.Process().children())

    with ThreadPoolExecutor(6) as pool:
        asking = [pool.submit(ask, started) for _ in range(6)]
        started.wait(lambda: platform.cluster_asked > 1 or in_line() == 6)
        platform.cluster_open.set()
        found = [one.result() for one in asking]
    assert {json.loads(done.stdout)["status"]["token"] for done in found} == {"kube-token-1"}
    assert started.platform.cluster_asked == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((503, {"detail": "The dev cluster does not answer.", "next_step": "Wait."}), "does not answer. Wait."),
        ((409, {"detail": "This run of the workspace is over."}), "This run of the workspace is over."),
        ((404, {}), "Slipway gave no token"),
        ((200, {"token": "", "expires_in": 900}), "Slipway gave no token"),
        ((200, {"token": "x"}), "Slipway gave no token"),
        ((200, {"token": "x", "expires_in": -1}), "Slipway gave no token"),
        ((200, {"token": "x", "expires_in": 1e300}), "Slipway gave no token"),
        ((200, {"token": ["x"], "expires_in": 900}), "Slipway gave no token"),
    ],
)
def test_a_refusal_is_told(started: Agent, answer: tuple[int, dict[str, Any]], said: str) -> None:
    started.wait_condition("ide", "done")
    started.platform.cluster_answers = [answer]
    done = ask(started)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_platform_that_is_away_is_told(started: Agent) -> None:
    started.wait_condition("ide", "done")
    started.platform.close()
    done = ask(started)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "slipway: Slipway does not answer. Try again in a moment.\n"


class Clock:
    """The plugin called at chosen times, against a platform that counts."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        plugin = plugin_of(agent)
        self.arguments = plugin["args"][plugin["args"].index("agent.kubernetes_credential") + 1 :]

    def ask(self, now: float) -> dict[str, Any]:
        out, errors = io.StringIO(), io.StringIO()
        assert kubernetes_credential.main(self.arguments, out, errors, lambda: now) == 0, errors.getvalue()
        status: dict[str, Any] = json.loads(out.getvalue())["status"]
        return status


def test_a_credential_is_renewed_before_its_end(started: Agent) -> None:
    started.wait_condition("ide", "done")
    started.platform.cluster_answers = [
        (200, {"token": f"t{number}", "expires_in": seconds}) for number, seconds in enumerate((900, 900, 60, 900))
    ]
    clock = Clock(started)
    assert clock.ask(1000.0) == {"token": "t0", "expirationTimestamp": "1970-01-01T00:30:40Z"}
    assert clock.ask(1059.0)["token"] == "t0"
    assert clock.ask(1061.0)["token"] == "t1"
    # A clock that was set back, and a file that somebody damaged.
    assert clock.ask(900.0)["token"] == "t2"
    # Half of a short life.
    assert clock.ask(929.0)["token"] == "t2"
    assert clock.ask(931.0)["token"] == "t3"
    (started.run_dir / "kubernetes-credential.json").write_text('{"token": "x", "expires": "soon", "asked": true}')
    assert clock.ask(932.0)["token"] == "t3"
    assert started.platform.cluster_asked == 5


def test_where_nothing_can_be_kept_it_is_asked_for_again(started: Agent) -> None:
    started.wait_condition("ide", "done")
    clock = Clock(started)
    clock.arguments = [*clock.arguments[:2], str(Path("/nonexistent/cache"))]
    assert [clock.ask(1000.0)["token"] for _ in range(2)] == ["kube-token-1"] * 2
    assert started.platform.cluster_asked == 2


@pytest.mark.parametrize(
    "change", [{"server": ""}, {"server": 1}, {"namespace": "a\nb"}, {"certificate_authority": None}]
)
def test_terms_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    document = {
        "workspace": {"id": "w", "slug": "s"},
        "run": 1,
        "repository": {"clone_url": "https://x/y", "full_name": "a/b", "ref": "HEAD"},
        "identity": {"name": "", "email": ""},
        "urls": {"workspace": "u", "port": "p"},
    }
    assert spec.parse(json.dumps({**document, "dev_cluster": None})).dev_cluster is None
    assert spec.parse(json.dumps({**document, "dev_cluster": CLUSTER})).dev_cluster == spec.DevCluster(**CLUSTER)
    with pytest.raises(Problem, match="dev_cluster"):
        spec.parse(json.dumps({**document, "dev_cluster": {**CLUSTER, **change}}))
