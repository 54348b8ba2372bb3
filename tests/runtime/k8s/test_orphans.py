"""What no workspace owns, on a real API server: told at once, removed late, its volume never. Time is the test's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection

from accounts.models import User
from tests.runtime.k8s.conftest import Stage, patiently
from tests.support.waiting import eventually
from workspaces.models import Workspace
from workspaces.operator.orphans import FEW, Collector
from workspaces.runtime.k8s import K8sConfig
from workspaces.runtime.k8s.operations import K8sOperations

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180), pytest.mark.django_db(transaction=True)]
Factory = Callable[..., Workspace]
GRACE = 250.0
NOTE = "slipway.dev/orphan-seconds"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Nobody:
    """Is told nothing."""

    def changed(self, name: str) -> None: ...
    def said(self, name: str) -> None: ...
    def heard(self, kind: str, age: float) -> None: ...
    def listed(self, kind: str, reason: str, count: int) -> None: ...


class Watchman:
    """A leading operator's look at everything."""

    def __init__(self, stage: Stage, name: str = "a", *, grace: float = GRACE, **changes: Any) -> None:
        config = K8sConfig(**{**stage.values, **changes})
        self.clock = Clock()
        self.operations = K8sOperations(config, stage.runtime(**changes), name, Nobody())
        self.collector = Collector(self.operations, grace=grace, clock=self.clock)

    def look(self, after: float = 0.0) -> list[str] | None:
        """Look once, some seconds after the last time."""
        self.clock.now += after
        assert self.operations.hold()
        return self.collector.look()


@pytest.fixture
def known(owner: User, workspace_factory: Factory) -> Workspace:
    """The database is not empty."""
    return workspace_factory(owner, slug="known", state="stopped", desired="stopped")


def _note(stage: Stage, name: str = "demo") -> str | None:
    found = stage.cluster.get("namespace", f"{stage.prefix}{name}")
    noted: str | None = found["metadata"].get("annotations", {}).get(NOTE)
    return noted


def _ending(stage: Stage, kind: str, name: str = "demo") -> bool:
    found = stage.cluster.get(kind, f"{stage.prefix}{name}", f"{stage.prefix}{name}")
    return not found or "deletionTimestamp" in found["metadata"]


def test_a_run_of_nobodys_ends_after_the_grace_and_its_volume_stays(stage: Stage, known: Workspace) -> None:
    stage.start()
    stage.bind()
    watchman = Watchman(stage)
    assert watchman.look() == ["demo"]
    assert _note(stage) == "0"
    assert watchman.look(after=GRACE - 1) == ["demo"]
    assert _note(stage) == str(int(GRACE - 1))
    assert not _ending(stage, "pod")
    watchman.look(after=1)
    assert _ending(stage, "pod"), "asked to end"
    assert stage.get("pod")["metadata"]["deletionGracePeriodSeconds"] > 1, "politely"
    assert stage.get("role"), "the walls stand while it does"
    stage.forget_pod()
    for _ in range(3):
        assert watchman.look(after=10) == ["demo"], "its volume is still told of"
    assert (
        stage.cluster.kubectl("get", "secret", "-n", f"{stage.prefix}demo", "-l", "slipway.dev/run", "-o", "name") == ""
    )
    assert not _ending(stage, "pvc")
    assert not _ending(stage, "namespace")


def test_without_a_volume_all_of_it_goes(stage: Stage, known: Workspace) -> None:
    stage.start()
    stage.bind()
    watchman = Watchman(stage)
    watchman.look()
    watchman.look(after=GRACE)
    stage.forget_pod()
    stage.cluster.kubectl("delete", "pvc", f"{stage.prefix}demo", "--namespace", f"{stage.prefix}demo")
    watchman.look(after=1)
    assert _ending(stage, "namespace")
    eventually(lambda: watchman.look(after=1) == [], timeout=60, every=0.5)


def test_somebodys_volume_in_the_namespace_keeps_it(stage: Stage, known: Workspace) -> None:
    stage.start()
    stage.bind()
    watchman = Watchman(stage)
    watchman.look()
    watchman.look(after=GRACE)
    stage.forget_pod()
    name = f"{stage.prefix}demo"
    stage.cluster.kubectl("delete", "resourcequota", "--all", "--namespace", name)
    theirs = stage.get("pvc")
    theirs["metadata"] = {"name": "theirs", "namespace": name}
    theirs.pop("status")
    stage.cluster.kubectl("create", "--filename", "-", text=json.dumps(theirs))
    stage.cluster.kubectl("delete", "pvc", name, "--namespace", name)
    watchman.look(after=1)
    watchman.look(after=1)
    assert not _ending(stage, "namespace")


def test_who_comes_back_is_nobodys_no_more(
    stage: Stage, known: Workspace, owner: User, workspace_factory: Factory
) -> None:
    stage.start()
    watchman = Watchman(stage)
    watchman.look()
    watchman.look(after=GRACE - 1)
    row = workspace_factory(owner, slug="demo", state="starting", run=1, launched_run=1)
    assert watchman.look(after=100) == []
    assert _note(stage) is None
    row.delete()
    assert watchman.look(after=100) == ["demo"]
    assert _note(stage) == "0", "its time begins anew"
    assert not _ending(stage, "pod")


def test_time_in_which_nobody_looked_does_not_count(stage: Stage, known: Workspace) -> None:
    stage.start()
    first = Watchman(stage)
    first.look()
    first.look(after=100)
    first.operations.release()
    second = Watchman(stage, "b")
    second.clock.now = 9_000_000.0
    assert second.look() == ["demo"]
    assert _note(stage) == "100", "what was seen before is kept, and the other one's clock does not matter"
    second.look(after=5)
    assert _note(stage) == "105"
    second.look(after=1e9)
    assert int(_note(stage) or 0) <= 1000, "a pause that long was no looking"


def test_without_a_grace_it_is_only_told(stage: Stage, known: Workspace) -> None:
    stage.start()
    watchman = Watchman(stage, grace=0)
    for _ in range(3):
        assert watchman.look(after=500) == ["demo"]
    assert not _ending(stage, "pod")


def test_a_database_that_knows_nobody_is_not_believed(stage: Stage) -> None:
    stage.start()
    watchman = Watchman(stage)
    for _ in range(3):
        assert watchman.look(after=500) == ["demo"]
    assert _note(stage) is None
    assert not _ending(stage, "pod")


def test_a_database_that_knows_few_is_not_believed(stage: Stage, known: Workspace) -> None:
    runtime, names = stage.runtime(), [f"demo{number}" for number in range(FEW + 1)]
    for name in names:
        stage.start(runtime, name=name)
    watchman = Watchman(stage)
    for _ in range(3):
        assert watchman.look(after=500) == names
    assert not any(_ending(stage, "pod", name) or _note(stage, name) for name in names)


def test_a_database_or_a_cluster_that_is_away_says_nothing(stage: Stage, known: Workspace) -> None:
    stage.start()
    watchman = Watchman(stage)

    def away(*_: Any) -> Any:
        raise OperationalError("the database is away")

    watchman.look()
    with connection.execute_wrapper(away):
        assert watchman.look(after=GRACE) is None
    assert _note(stage) == "0"
    watchman.look(after=GRACE)
    assert _note(stage) == "0", "it was not seen meanwhile"
    stage.cluster.stop_api()
    try:
        watchman.clock.now += GRACE
        assert watchman.collector.look() is None
    finally:
        stage.cluster.start_api()
    patiently(lambda: watchman.look(after=GRACE))
    assert not _ending(stage, "pod")


def test_who_lost_the_lead_does_nothing(stage: Stage, known: Workspace) -> None:
    stage.start()
    watchman = Watchman(stage)
    watchman.look()
    watchman.look(after=GRACE - 1)
    watchman.operations.release()
    watchman.clock.now += 10
    assert watchman.collector.look() == ["demo"]
    assert _note(stage) == str(int(GRACE - 1))
    assert not _ending(stage, "pod")


def test_what_another_installation_has_is_never_touched(stage: Stage, known: Workspace) -> None:
    theirs = stage.runtime(instance=f"{stage.prefix}x")
    stage.start(theirs)
    watchman = Watchman(stage)
    for _ in range(3):
        assert watchman.look(after=GRACE) == []
    assert _note(stage) is None
    assert not _ending(stage, "pod")
    stage.cluster.kubectl("delete", "namespace", f"{stage.prefix}demo", "--wait=false")


def test_in_a_shared_namespace_only_what_is_nobodys_goes(
    stage: Stage, known: Workspace, owner: User, workspace_factory: Factory, tmp_path: Path
) -> None:
    shared = f"{stage.prefix}all"
    stage.cluster.kubectl("create", "namespace", shared)
    stage.cluster.kubectl("label", "namespace", shared, f"slipway.dev/instance={stage.values['instance']}")
    changes: dict[str, Any] = {"layout": "shared", "namespace": shared}
    runtime = stage.runtime(**changes)
    for name in ("demo", "other"):
        stage.start(runtime, name=name)
    workspace_factory(owner, slug="other", state="starting", run=1, launched_run=1)
    watchman = Watchman(stage, **changes)
    assert watchman.look() == ["demo"]
    watchman.look(after=GRACE)
    patiently(lambda: watchman.look(after=1))

    def left(kind: str, name: str) -> dict[str, Any]:
        return stage.cluster.get(kind, f"{stage.prefix}{name}", shared)

    assert not left("pod", "demo")
    assert left("pvc", "demo")
    assert left("serviceaccount", "demo"), "what the volume lies in stays"
    stage.cluster.kubectl("delete", "pvc", f"{stage.prefix}demo", "--namespace", shared)
    # Another process: this one remembers that it was done.
    watchman.operations.release()
    second = Watchman(stage, "b", **changes)
    second.look()
    second.look(after=1)
    for kind in ("serviceaccount", "role", "rolebinding"):
        assert not left(kind, "demo")
        assert left(kind, "other")
    policies = stage.cluster.kubectl("get", "networkpolicy", "--namespace", shared, "--output", "name")
    assert "other" in policies
    assert "demo" not in policies
    assert left("pod", "other")
    assert second.look(after=1) == []
