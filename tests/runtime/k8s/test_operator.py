"""The operator on a real API server: what changes there is looked at, whatever breaks in between."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from accounts.models import User
from tests.runtime.k8s.conftest import Stage
from tests.runtime.k8s.crew import Process, Relay, Threaded
from tests.runtime.k8s.test_copies import Copier
from tests.support.queue import asked, empty
from tests.support.waiting import eventually
from workspaces.models import Workspace
from workspaces.runtime.k8s.operations import Patience

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240), pytest.mark.django_db(transaction=True)]
Factory = Callable[..., Workspace]
Hire = Callable[..., Threaded]


@pytest.fixture
def hire(stage: Stage) -> Iterator[Hire]:
    """Operators in threads."""
    crew: list[Threaded] = []

    def make(**options: object) -> Threaded:
        crew.append(Threaded(stage, **options).start())  # type: ignore[arg-type] # Handed on as given.
        return crew[-1]

    yield make
    for one in crew:
        one.end()


@pytest.fixture
def relay(stage: Stage, tmp_path: Path) -> Iterator[Relay]:
    """A way to the API server that can be cut."""
    found = Relay(stage.cluster, tmp_path)
    found.open()
    yield found
    found.cut()


@pytest.fixture
def demo(stage: Stage, owner: User, workspace_factory: Factory) -> Workspace:
    """A workspace in the midst of its start: of those, the look at everything says nothing."""
    stage.start()
    return workspace_factory(owner, slug="demo", state="starting", run=1, launched_run=1)


def _nudged(row: Workspace) -> bool:
    return str(row.pk) in asked()


def _settled(one: Threaded) -> None:
    """It leads, and what happened before is over."""
    one.settle().quiet()


def _recovered(stage: Stage, one: Threaded) -> None:
    """It hears again what happens to each kind, and leads."""
    name = f"{stage.prefix}demo"

    def hears() -> bool:
        stage.cluster.kubectl("annotate", "namespace", name, "--overwrite", f"touched={secrets.token_hex(4)}")
        for kind in ("pod", "pvc"):
            touch = ("--namespace", name, "--overwrite", f"touched={secrets.token_hex(4)}")
            stage.cluster.kubectl("annotate", kind, name, *touch)
        _say(stage, "touched")
        return one.healthy == 200

    eventually(hears, timeout=90, every=0.5)
    _settled(one)


def _say(stage: Stage, reason: str) -> None:
    """An event about the volume."""
    name = f"{stage.prefix}demo"
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": "said-", "namespace": name},
        "involvedObject": {"kind": "PersistentVolumeClaim", "namespace": name, "name": name},
        "reason": reason,
        "message": "no room",
        "type": "Warning",
    }
    stage.cluster.kubectl("create", "--filename", "-", text=json.dumps(event))


def test_what_happens_to_a_pod_is_looked_at(stage: Stage, demo: Workspace, hire: Hire) -> None:
    one = hire()
    _settled(one)
    stage.bind()
    eventually(lambda: _nudged(demo))
    _settled(one)
    stage.say(phase="Running", podIP="10.1.1.1", podIPs=[{"ip": "10.1.1.1"}])
    eventually(lambda: _nudged(demo))
    _settled(one)
    stage.forget_pod()
    eventually(lambda: _nudged(demo))


def test_what_is_said_of_a_volume_is_looked_at(stage: Stage, demo: Workspace, hire: Hire) -> None:
    _settled(hire())
    _say(stage, "ProvisioningFailed")
    eventually(lambda: _nudged(demo))


def test_the_end_of_a_job_is_looked_at(stage: Stage, owner: User, workspace_factory: Factory, hire: Hire) -> None:
    copier = Copier(stage.cluster, stage.values)
    runtime = copier.copying()
    copier.volume(runtime)
    copier.save(runtime)
    copier.bind(suffix="-save-one")  # So that the scheduler has nothing to say of it.
    # Of one in the midst of its start, the look at everything says nothing.
    demo = workspace_factory(owner, slug="demo", state="starting", run=1, launched_run=1)
    _settled(hire())
    copier.end_job("save-one", copier.done())
    eventually(lambda: _nudged(demo))


def test_a_namespace_that_somebody_deletes_is_looked_at(stage: Stage, demo: Workspace, hire: Hire) -> None:
    stage.bind()  # So that its pod stays, and says nothing.
    _settled(hire())
    stage.cluster.kubectl("delete", "namespace", f"{stage.prefix}demo", "--wait=false")
    eventually(lambda: _nudged(demo))


def test_what_another_installation_has_is_not_looked_at(stage: Stage, demo: Workspace, hire: Hire) -> None:
    _settled(hire())
    theirs = stage.runtime(instance=f"{stage.prefix}x", prefix=f"x{stage.prefix}")
    stage.start(theirs, name="demo")
    stage.start(name="other")  # A workspace that the database does not know.
    assert not _nudged(demo)
    stage.bind()
    eventually(lambda: _nudged(demo))
    stage.cluster.kubectl("delete", "namespace", f"x{stage.prefix}demo", "--wait=false")


def test_a_way_that_is_cut_costs_no_change(stage: Stage, demo: Workspace, hire: Hire, relay: Relay) -> None:
    one = hire(kubeconfig=relay.kubeconfig)
    _settled(one)
    relay.cut()
    one.quiet()
    stage.bind()
    relay.open()
    eventually(lambda: _nudged(demo), timeout=60)


def test_a_history_that_has_expired_is_listed_again(stage: Stage, demo: Workspace, hire: Hire, relay: Relay) -> None:
    one = hire(kubeconfig=relay.kubeconfig)
    _settled(one)
    relay.cut()
    one.quiet()
    stage.bind()
    stage.say(phase="Running")
    # A server that has just started knows only what it found, and nothing of before.
    stage.cluster.stop_api()
    stage.cluster.start_api()
    relay.open()
    eventually(lambda: _nudged(demo), timeout=90)
    expired = 'slipway_operator_relists_total{kind="Pod",reason="expired"}'
    eventually(lambda: expired in one.metrics, timeout=60)
    metrics = one.metrics
    assert 'slipway_operator_last_event_age_seconds{kind="Pod"}' in metrics
    assert "slipway_operator_leader 1.0" in metrics
    assert "slipway_operator_event_lag_seconds_bucket" in metrics


def test_a_server_that_is_away_is_no_news_of_anybody(stage: Stage, demo: Workspace, hire: Hire) -> None:
    one = hire(patience=Patience(silence=2, deaf_after=8))
    _settled(one)
    stage.cluster.stop_api()
    one.quiet()
    try:
        eventually(lambda: one.healthy == 503, timeout=60)
        assert "deaf" in one.words
        eventually(lambda: not one.operator.operations.leads)
        assert asked() == []
    finally:
        stage.cluster.start_api()
    _recovered(stage, one)
    stage.bind()
    eventually(lambda: _nudged(demo), timeout=60)


def test_a_server_that_falls_silent_is_noticed(stage: Stage, demo: Workspace, hire: Hire) -> None:
    one = hire(patience=Patience(silence=2, deaf_after=8))
    _settled(one)
    stage.cluster.pause_api()
    one.quiet()
    try:
        eventually(lambda: one.healthy == 503, timeout=60)
        assert asked() == []
    finally:
        stage.cluster.resume_api()
    _recovered(stage, one)
    stage.bind()
    eventually(lambda: _nudged(demo), timeout=60)


def test_rights_that_are_missing_are_told_and_it_goes_on_trying(stage: Stage, demo: Workspace, hire: Hire) -> None:
    user = f"{stage.prefix}operator"
    one = hire(kubeconfig=stage.cluster.kubeconfig_for(user))
    eventually(lambda: "Pod: refused: 403" in one.words and "Lease refused: 403" in one.words, timeout=60)
    assert one.ready == 503
    stage.cluster.kubectl("create", "clusterrolebinding", user, "--clusterrole=cluster-admin", f"--user={user}")
    try:
        one.settle()
        eventually(lambda: "refused" not in one.words)
        _settled(one)
        stage.bind()
        eventually(lambda: _nudged(demo))
    finally:
        stage.cluster.kubectl("delete", "clusterrolebinding", user)


def test_a_row_that_runs_without_a_pod_is_looked_at(
    stage: Stage, owner: User, workspace_factory: Factory, hire: Hire
) -> None:
    row = workspace_factory(owner, slug="vanished", state="running", run=1, launched_run=1)
    hire().settle()
    eventually(lambda: _nudged(row))


@pytest.fixture
def pair(stage: Stage, tmp_path: Path) -> Iterator[list[Process]]:
    """Two operators as real processes."""
    both = [Process(stage, tmp_path, name) for name in ("a", "b")]
    yield both
    for one in both:
        one.kill()


def test_two_processes_have_one_leader_and_the_other_one_follows_when_it_is_killed(
    stage: Stage, demo: Workspace, pair: list[Process]
) -> None:
    for one in pair:
        one.settle()
    leader = eventually(lambda: next((one for one in pair if one.leads), None))
    assert leader is not None
    follower = next(one for one in pair if one is not leader)
    assert " follows\n" in follower.words
    empty()
    stage.bind()
    eventually(lambda: _nudged(demo))
    leader.kill()
    # Heard by the one who does not lead yet, and passed on once it does.
    empty()
    stage.say(phase="Running")
    eventually(lambda: _nudged(demo), timeout=40)
    assert follower.leads
    assert follower.end() == 0, follower.log.read_text()
    lease = stage.cluster.get("lease", f"{stage.values['instance']}-operator")
    assert lease["spec"].get("holderIdentity", "") == ""
    assert "Traceback" not in follower.log.read_text()
