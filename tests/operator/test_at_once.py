"""Several workers at one workspace, and what the sweeps find."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import User
from kernel.errors import ClusterFault
from tests.services.stage import Stage, together
from workspaces.models import Event, Workspace
from workspaces.operator.decide import NODE_LOST
from workspaces.operator.reconcile import reconcile
from workspaces.operator.sweep import LOOK_SECONDS, MANY, compare, sweep, sweep_orphans
from workspaces.runtime.fake import FakeRuntime
from workspaces.runtime.port import Listed, Observation, Presence, RunSpec
from workspaces.selectors import due
from workspaces.services import intents
from workspaces.states import RESTING, State

Factory = Callable[..., Workspace]


class Counting(FakeRuntime):
    """Lets workers meet at the launch, and counts what was started."""

    def __init__(self, meeting: int) -> None:
        super().__init__()
        self.gate = threading.Barrier(meeting, timeout=1)
        self.started: list[int] = []

    def ensure_run(self, spec: RunSpec) -> Observation:
        with contextlib.suppress(threading.BrokenBarrierError):
            self.gate.wait()
        with self._lock:
            if self.observe(spec.name).presence is Presence.ABSENT:
                self.started.append(spec.run)
            return super().ensure_run(spec)


@pytest.mark.django_db(transaction=True)
def test_workers_at_once_start_one_run(owner: User, workspace_factory: Factory) -> None:
    workspace = workspace_factory(owner, look_again_at=timezone.now())
    runtime = Counting(2)
    results = together([lambda: reconcile(workspace.pk, runtime)] * 4)
    assert results == [None] * 4
    workspace.refresh_from_db()
    assert (workspace.state, workspace.run, runtime.started) == (State.STARTING, 1, [1])
    assert Event.objects.filter(workspace=workspace, target="starting").count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_clicks_on_start_at_once_are_one_intent(owner: User, workspace_factory: Factory) -> None:
    workspace = workspace_factory(owner, state="stopped", desired="stopped")

    def click() -> int:
        row = Workspace.objects.get(pk=workspace.pk)
        return intents.start(row, actor=owner, now=timezone.now()).generation

    assert together([click] * 4) == [2, 2, 2, 2]
    assert Event.objects.filter(kind="intent").count() == 1


@pytest.mark.django_db
def test_the_sweep_finds_what_is_overdue_and_nothing_else(owner: User, workspace_factory: Factory) -> None:
    now = timezone.now()
    late = workspace_factory(owner, slug="late", look_again_at=now - timedelta(seconds=9))
    later = workspace_factory(owner, slug="later", look_again_at=now - timedelta(seconds=1))
    workspace_factory(owner, slug="future", look_again_at=now + timedelta(seconds=1))
    workspace_factory(owner, slug="resting", state="stopped", desired="stopped")
    assert due(now=now) == [late.pk, later.pk]
    assert due(now=now, limit=1) == [late.pk]
    assert sweep(now=now) == 2


@pytest.mark.django_db
def test_a_worker_that_is_behind_is_not_reminded_at_every_sweep(owner: User, workspace_factory: Factory) -> None:
    now = timezone.now()
    for number in range(MANY + 1):
        workspace_factory(owner, slug=f"late-{number}", look_again_at=now)
    assert sweep(now=now) == MANY + 1
    assert sweep(now=now + timedelta(seconds=5)) == 0
    # What was lost on the way is found all the same.
    assert sweep(now=now + (MANY + 1) * LOOK_SECONDS) == MANY + 1


@pytest.mark.django_db
def test_what_nobody_owns_is_reported_and_left_alone(stage: Stage, owner: User, workspace_factory: Factory) -> None:
    mine = workspace_factory(owner)
    for name in (mine.slug, "somebodys-work"):
        stage.runtime.ensure_volume(name)
        stage.runtime.ensure_run(RunSpec(name, 1, {}))
    assert sweep_orphans(stage.runtime) == ["somebodys-work"]
    assert stage.runtime.observe("somebodys-work").presence is Presence.RUNNING


@pytest.mark.django_db
def test_a_runtime_that_cannot_list_has_no_orphans(stage: Stage) -> None:
    stage.behave(fail={"list": ClusterFault("cluster_away", "Away.")})
    assert sweep_orphans(stage.runtime) == []


_NEWS = {
    (State.RUNNING, Presence.ABSENT),
    (State.RUNNING, Presence.EXITED),
    (State.RUNNING, Presence.UNKNOWN),
    *((state, seen) for state in RESTING - {State.RUNNING} for seen in (Presence.RUNNING, Presence.EXITED)),
}


@pytest.mark.parametrize("state", sorted(RESTING))
@pytest.mark.parametrize("seen", list(Presence))
@pytest.mark.django_db
def test_what_changed_while_nobody_looked_is_found_and_nothing_else(
    owner: User, workspace_factory: Factory, state: State, seen: Presence
) -> None:
    row = workspace_factory(owner, state=state.value, run=1, launched_run=1)
    assert compare([Listed(row.slug, has_volume=True, presence=seen)]) == (
        [],
        [row.pk] if (state, seen) in _NEWS else [],
    )


@pytest.mark.parametrize(("seen", "news"), [(Presence.UNKNOWN, False), (Presence.RUNNING, True)])
@pytest.mark.django_db
def test_a_machine_that_answers_again_is_news_and_one_that_is_known_to_be_silent_is_none(
    owner: User, workspace_factory: Factory, seen: Presence, news: bool
) -> None:
    row = workspace_factory(owner, state="running", run=1, launched_run=1, warnings=[NODE_LOST])
    assert compare([Listed(row.slug, has_volume=True, presence=seen)])[1] == ([row.pk] if news else [])
