"""kubectl as it is in a workspace: agent's files, agent's plugin, the platform's address, a real API server."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from accounts.models import User
from agent import environment, kubeconfig, spec
from kernel.errors import ClusterFault
from tests.cluster import programs
from tests.devcluster.conftest import DevStage, asked_for
from tests.services.stage import Stage
from tests.support.waiting import eventually
from workspaces import tasks
from workspaces.models import Workspace
from workspaces.runtime.devcluster import Grant
from workspaces.services import devclusters, run_secrets
from workspaces.services.runtimes import run_spec
from workspaces.services.transition import transition
from workspaces.states import Reason, State

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180), pytest.mark.django_db(transaction=True)]
Factory = Callable[..., Workspace]


@dataclasses.dataclass
class Inside:
    """The inside of one run of a workspace."""

    env: environment.Environment

    def kubectl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        found = programs.path("kubectl")
        program = str(found) if found.exists() else shutil.which("kubectl") or "kubectl"
        variables = {**self.env.variables, **kubeconfig.variables(self.env)}
        return subprocess.run(
            [program, *arguments], env=variables, capture_output=True, text=True, check=False, timeout=120
        )

    def works(self, *arguments: str) -> str:
        done = self.kubectl(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refusal(self, *arguments: str) -> str:
        done = self.kubectl(*arguments)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def forget_token(self) -> None:
        (self.env.run_dir / "kubernetes-credential.json").unlink(missing_ok=True)


@pytest.fixture
def enter(live_server: Any, connected: DevStage) -> Iterator[Callable[[Workspace], Inside]]:
    """Start a run's inside, from the very document that the runtime hands to the agent."""
    folders: list[Path] = []

    def start(workspace: Workspace, **changes: str) -> Inside:
        base = Path(tempfile.mkdtemp(prefix="sk-"))
        folders.append(base)
        handed = run_spec(workspace)
        for name in ("home", "run"):
            (base / name).mkdir()
        (base / "secrets.json").write_text(json.dumps(dict(handed.secrets)))
        (base / "spec.json").write_text(json.dumps(dict(handed.agent)))
        env = environment.read(
            {
                "PATH": os.environ["PATH"],
                "HOME": str(base / "home"),
                "SLIPWAY_AGENT_SPEC": str(base / "spec.json"),
                "SLIPWAY_AGENT_SECRETS": str(base / "secrets.json"),
                "SLIPWAY_RUN_DIR": str(base / "run"),
                "SLIPWAY_STATE_DIR": str(base / "state"),
                "SLIPWAY_PLATFORM": live_server.url,
                "SLIPWAY_NODE": "node",
                "SLIPWAY_IDE": "ide",
                **changes,
            }
        )
        document = spec.parse((base / "spec.json").read_bytes())
        assert document.dev_cluster is not None
        kubeconfig.install(env, document.dev_cluster)
        return Inside(env)

    yield start
    for folder in folders:
        shutil.rmtree(folder)


@pytest.fixture
def workspace(owner: User, workspace_factory: Factory) -> Workspace:
    return workspace_factory(owner, slug="demo", state="running", run=3, launched_run=3)


def test_kubectl_just_works(workspace: Workspace, enter: Any, connected: DevStage) -> None:
    inside = enter(workspace)
    inside.works("create", "configmap", "mine")
    assert "mine" in inside.works("get", "configmaps")
    said = inside.works("auth", "whoami", "--output", "jsonpath={.status.userInfo.username}")
    assert said == f"system:serviceaccount:{connected.namespace()}:slipway-run-3"
    assert "forbidden" in inside.refusal("get", "nodes").lower()
    # What its owner adds is kept in the file of their own, and wins.
    inside.works(
        "config", "set-context", "other", "--cluster", "slipway", "--user", "slipway", "--namespace", "default"
    )
    inside.works("config", "use-context", "other")
    assert "other" in (inside.env.home / ".kube" / "config").read_text()
    assert "forbidden" in inside.refusal("get", "configmaps").lower()
    assert "mine" in inside.works("get", "configmaps", "--context", "slipway")


def test_a_start_asks_the_cluster_nothing(workspace: Workspace, enter: Any, connected: DevStage) -> None:
    enter(workspace)
    assert connected.adapter().namespaces() == []


def test_each_workspace_gets_its_own(
    workspace: Workspace, owner: User, workspace_factory: Factory, enter: Any, connected: DevStage
) -> None:
    other = enter(workspace_factory(owner, slug="other", state="running", run=1))
    inside = enter(workspace)
    other.works("create", "configmap", "theirs")
    assert "theirs" not in inside.works("get", "configmaps")
    assert "forbidden" in inside.refusal("get", "configmaps", "--namespace", connected.namespace("other")).lower()
    said = other.works("auth", "whoami", "--output", "jsonpath={.status.userInfo.username}")
    assert said.split(":")[2] == connected.namespace("other")


def test_a_stop_ends_it(workspace: Workspace, enter: Any, connected: DevStage) -> None:
    inside = enter(workspace)
    inside.works("create", "configmap", "mine")
    assert transition(workspace, State.STOPPING, now=timezone.now(), reason=Reason.USER)
    inside.works("get", "configmaps")
    assert asked_for() == []
    assert transition(workspace, State.STOPPED, now=timezone.now(), reason=Reason.USER)
    assert asked_for() == [str(workspace.pk)]
    tasks.settle_dev_access(str(workspace.pk))
    # The token is still in the run's folder, as a thief would have it.
    eventually(lambda: "forbidden" in inside.refusal("get", "configmaps").lower(), timeout=5, every=0.05)
    inside.forget_token()
    assert "slipway: This run of the workspace is over." in inside.refusal("get", "configmaps")
    assert connected.adapter().grants() == []
    # The next run finds what the last one left.
    assert transition(workspace, State.STARTING, now=timezone.now(), reason=Reason.USER, run=4)
    again = enter(workspace)
    assert "mine" in again.works("get", "configmaps")
    inside.forget_token()
    assert "over" in inside.refusal("get", "configmaps")


def test_an_interrupted_run_ends_it_too(workspace: Workspace, enter: Any, connected: DevStage) -> None:
    inside = enter(workspace)
    inside.works("get", "configmaps")
    asked_for()
    assert transition(workspace, State.STARTING, now=timezone.now(), reason=Reason.INTERRUPTED, run=4)
    assert asked_for() == [str(workspace.pk)]
    tasks.settle_dev_access(str(workspace.pk))
    assert connected.adapter().grants() == []


def test_a_run_that_ends_while_its_token_is_made_gets_none(workspace: Workspace, connected: DevStage) -> None:
    """As read before the end, and asked for after it."""
    Workspace.objects.update(state="stopped")
    with pytest.raises(Exception, match="is over"):
        devclusters.lend(workspace)
    assert asked_for() == [str(workspace.pk)]
    assert connected.adapter().grants() == [Grant("demo", 3)]
    tasks.settle_dev_access(str(workspace.pk))
    assert connected.adapter().grants() == []


def test_the_sweep_finds_what_nobody_ended(
    workspace: Workspace, owner: User, workspace_factory: Factory, connected: DevStage
) -> None:
    purged = workspace_factory(owner, slug="purged", state="running", run=1)
    living = workspace_factory(owner, slug="living", state="running", run=2)
    for row in (workspace, purged, living):
        devclusters.lend(row)
    connected.adapter().issue_token("nobodys", 1)
    asked_for()
    Workspace.objects.filter(pk=workspace.pk).update(state="stopped")
    Workspace.objects.filter(pk=purged.pk).update(state="purged")
    assert devclusters.sweep() == ["nobodys"]
    assert sorted(asked_for()) == sorted([str(workspace.pk), str(purged.pk)])
    for row in (workspace, purged, living):
        tasks.settle_dev_access(str(row.pk))
    eventually(lambda: connected.adapter().grants() == [Grant("living", 2), Grant("nobodys", 1)], every=0.2)
    assert connected.adapter().namespaces() == ["demo", "living", "nobodys"]
    asked_for()
    devclusters.sweep()
    assert asked_for() == []


def test_a_workspace_that_is_purged_takes_its_namespace_along(workspace: Workspace, connected: DevStage) -> None:
    devclusters.lend(workspace)
    Workspace.objects.update(state="deleted")
    workspace.refresh_from_db()
    asked_for()
    assert transition(workspace, State.PURGED, now=timezone.now(), reason=Reason.EXPIRED)
    assert asked_for() == [str(workspace.pk)]
    tasks.settle_dev_access(str(workspace.pk))
    assert connected.adapter().namespaces() == []


def test_a_namespace_that_was_deleted_is_back_within_a_minute(
    workspace: Workspace, enter: Any, connected: DevStage
) -> None:
    inside = enter(workspace)
    inside.works("create", "configmap", "mine")
    connected.cluster.kubectl("delete", "namespace", connected.namespace())
    inside.forget_token()
    assert "mine" not in inside.works("get", "configmaps")


def test_a_foreign_namespace_is_told(workspace: Workspace, enter: Any, connected: DevStage) -> None:
    connected.cluster.kubectl("create", "namespace", connected.namespace())
    try:
        said = enter(workspace).refusal("get", "configmaps")
        assert "does not belong to Slipway. Ask your administrator" in said
    finally:
        connected.cluster.kubectl("delete", "namespace", connected.namespace(), "--wait=false")


def test_a_cluster_that_is_away_is_told(
    workspace: Workspace, enter: Any, connected: DevStage, settings: Any, tmp_path: Path
) -> None:
    inside = enter(workspace)
    config = json.loads(connected.cluster.kubectl("config", "view", "--raw", "--output", "json"))
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{held.getsockname()[1]}"
        (tmp_path / "away").write_text(json.dumps(config))
        settings.DEV_CLUSTER = {
            **settings.DEV_CLUSTER,
            "options": {**connected.options, "kubeconfig": str(tmp_path / "away")},
        }
        devclusters.dev_cluster.cache_clear()
        assert "slipway: The dev cluster does not answer. Try again in a moment." in inside.refusal("get", "configmaps")
        assert devclusters.sweep() == []
        # The job is tried again by Celery, which has nothing to do with a task that is called like this.
        with pytest.raises(ClusterFault, match="Connection refused"):
            tasks.settle_dev_access(str(workspace.pk))


def test_the_operator_ends_what_it_stops(connected: DevStage, owner: User, workspace_factory: Factory) -> None:
    with time_machine.travel(timezone.now(), tick=False) as traveller:
        stage = Stage(traveller)
        stage.give(workspace_factory(owner, slug="demo", look_again_at=timezone.now()))
        row = stage.work(seconds=10)
        assert row.state == State.RUNNING
        devclusters.lend(row)
        asked_for()
        Workspace.objects.update(desired="stopped", generation=row.generation + 1, look_again_at=timezone.now())
        assert stage.work(seconds=60).state == State.STOPPED
        assert asked_for() == [str(row.pk)]
    tasks.settle_dev_access(str(row.pk))
    assert connected.adapter().grants() == []


def test_the_token_of_a_run_is_not_in_the_kubeconfig(workspace: Workspace, enter: Any) -> None:
    inside = enter(workspace)
    inside.works("get", "configmaps")
    secret = run_secrets.run_token(workspace.pk, workspace.run)
    kept = [path.read_text() for path in inside.env.run_dir.iterdir()]
    kept.append((inside.env.home / ".kube" / "config").read_text())
    assert not [text for text in kept if secret in text]
