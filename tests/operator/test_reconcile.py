"""What the operator does to one workspace, from one intent to the next."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from kernel.errors import ClusterFault, UserFault
from tests.services.stage import Stage, said
from workspaces.models import Condition, Event, Workspace
from workspaces.operator.decide import HEALTHY_AFTER, MOST_INTERRUPTIONS
from workspaces.operator.reconcile import reconcile
from workspaces.runtime.fake import FakeRuntime
from workspaces.runtime.port import REFUSED, Observation, Presence, RunSpec
from workspaces.services import intents
from workspaces.states import State

Factory = Callable[..., Workspace]
pytestmark = pytest.mark.django_db


def _texts(kind: str) -> list[str]:
    return list(Event.objects.filter(kind=kind).values_list("text", flat=True))


def _path() -> list[str]:
    return list(Event.objects.filter(kind="state").values_list("target", flat=True))


def test_a_start_runs_through_its_steps(stage: Stage, pending: Workspace) -> None:
    row = stage.look()
    assert (row.state, row.run, row.launched_run) == (State.STARTING, 1, 1)
    steps = dict(Condition.objects.filter(run=1).values_list("type", "status"))
    assert steps == {"queued": "done", "volume": "done", "container": "done"}
    stage.report(said({"type": "content", "status": "running", "message": "Cloning"}))
    assert stage.look().state == State.STARTING
    stage.report()
    row = stage.look()
    assert row.state == State.RUNNING
    assert set(row.upstream) == {"ide", "ports"}
    assert row.started_at == timezone.now()
    assert _path() == ["starting", "running"]


def test_an_editor_without_content_is_not_running(stage: Stage, pending: Workspace) -> None:
    stage.look()
    stage.report(said({"type": "ide", "status": "done"}))
    assert stage.look().state == State.STARTING


def test_stop_and_start_again(stage: Stage, owner: User, running: Workspace) -> None:
    intents.stop(running, actor=owner, now=timezone.now())
    stopped = stage.work(seconds=5)
    assert (stopped.state, stopped.upstream, stopped.look_again_at) == (State.STOPPED, {}, None)
    assert stage.presence() is Presence.ABSENT
    assert stage.runtime.list()[0].has_volume
    intents.start(stopped, actor=owner, now=timezone.now())
    again = stage.work(seconds=5)
    assert (again.state, again.run) == (State.RUNNING, 2)


def test_delete_trash_restore_and_the_files_are_there(stage: Stage, owner: User, running: Workspace) -> None:
    intents.delete(running, actor=owner, now=timezone.now())
    deleted = stage.work(seconds=5)
    assert deleted.state == State.DELETED
    assert deleted.purge_at is not None
    assert deleted.purge_at - timezone.now() > timedelta(days=13)
    assert stage.presence() is Presence.ABSENT
    intents.restore(deleted, actor=owner, now=timezone.now())
    assert stage.work(seconds=5).state == State.STOPPED
    stage.later(days=20)
    assert stage.work(seconds=5).state == State.STOPPED
    assert [entry.name for entry in stage.runtime.list()] == [running.slug]


def test_the_trash_is_emptied_when_its_time_is_up(stage: Stage, owner: User, running: Workspace) -> None:
    intents.delete(running, actor=owner, now=timezone.now())
    stage.work(seconds=5)
    stage.later(days=13)
    assert stage.work(seconds=5).state == State.DELETED
    stage.later(days=2)
    row = stage.work(seconds=5)
    assert (row.state, row.purge_at, row.look_again_at) == (State.PURGED, None, None)
    assert stage.runtime.list() == []
    assert not Condition.objects.exists()
    assert set(Event.objects.values_list("kind", flat=True)) == {"intent", "state"}


def test_stop_during_a_start(stage: Stage, owner: User, pending: Workspace) -> None:
    starting = stage.look()
    intents.stop(starting, actor=owner, now=timezone.now())
    assert stage.work(seconds=5).state == State.STOPPED
    assert stage.presence() is Presence.ABSENT
    assert "running" not in _path()


def test_delete_during_a_start(stage: Stage, owner: User, pending: Workspace) -> None:
    starting = stage.look()
    intents.delete(starting, actor=owner, now=timezone.now())
    assert stage.work(seconds=5).state == State.DELETED
    assert stage.presence() is Presence.ABSENT


def test_delete_before_anything_was_started(stage: Stage, owner: User, pending: Workspace) -> None:
    intents.delete(pending, actor=owner, now=timezone.now())
    assert stage.work(seconds=2).state == State.DELETED
    assert stage.runtime.list() == []


def test_start_while_it_is_stopping(stage: Stage, owner: User, running: Workspace) -> None:
    stage.behave(stop_after=3)
    intents.stop(running, actor=owner, now=timezone.now())
    stopping = stage.work(seconds=1)
    assert stopping.state == State.STOPPING
    intents.start(stopping, actor=owner, now=timezone.now())
    row = stage.work(seconds=10)
    assert (row.state, row.run) == (State.RUNNING, 2)
    assert _path()[-4:] == ["stopping", "stopped", "starting", "running"]


def test_a_restart_is_one_fresh_run(stage: Stage, owner: User, running: Workspace) -> None:
    intents.restart(running, actor=owner, now=timezone.now())
    intents.restart(running, actor=owner, now=timezone.now())
    row = stage.work(seconds=10)
    assert (row.state, row.run, row.restart_pending) == (State.RUNNING, 2, False)


def test_a_crash_is_told_and_started_again_but_not_for_ever(stage: Stage, pending: Workspace) -> None:
    stage.behave(exit_after=1)
    row = stage.work(seconds=60, ready=False)
    assert (row.state, row.run) == (State.FAILED, MOST_INTERRUPTIONS + 1)
    assert row.failure["code"] == "run_ended"
    assert row.failure["next_step"]
    assert sum("started again" in text for text in _texts("state")) == MOST_INTERRUPTIONS
    assert stage.presence() is Presence.ABSENT


def test_a_crash_of_a_running_workspace(stage: Stage, running: Workspace) -> None:
    stage.runtime.destroy_run(running.slug)
    row = stage.work(seconds=30)
    assert (row.state, row.run, row.interruptions) == (State.RUNNING, 2, 1)
    assert any("ended unexpectedly" in text for text in _texts("state"))


def test_what_ran_for_long_has_its_interruptions_forgiven(stage: Stage, running: Workspace) -> None:
    for _ in range(MOST_INTERRUPTIONS + 2):
        stage.later(seconds=(HEALTHY_AFTER + timedelta(minutes=5)).total_seconds())
        stage.runtime.destroy_run(running.slug)
        row = stage.work(seconds=30)
        assert (row.state, row.interruptions) == (State.RUNNING, 1)


def test_what_the_agent_refuses_is_told_and_not_tried_again(stage: Stage, pending: Workspace) -> None:
    stage.behave(exit_after=1, exit_code=REFUSED)
    row = stage.work(seconds=60, ready=False)
    assert (row.state, row.run) == (State.FAILED, 1)
    assert (row.failure["code"], row.failure["responsible"]) == ("run_refused", "platform")
    assert "administrator" in row.failure["next_step"]


def test_running_out_of_memory_is_named(stage: Stage, pending: Workspace) -> None:
    stage.behave(exit_after=1, exit_code=-9, exit_reason="oom_killed")
    row = stage.work(seconds=60, ready=False)
    assert (row.state, row.failure["code"], row.failure["responsible"]) == (State.FAILED, "oom_killed", "user")
    assert "memory" in row.failure["text"]
    assert any("memory" in text and "again" in text for text in _texts("state"))


def test_a_clone_that_fails_tells_its_own_words_and_ends_the_run(stage: Stage, pending: Workspace) -> None:
    stage.look()
    step = {"type": "content", "status": "failed", "code": "clone_denied", "message": "No access.", "next_step": "Ask."}
    stage.report(said(step))
    row = stage.work(seconds=5, ready=False)
    assert row.state == State.FAILED
    assert {key: row.failure[key] for key in ("code", "text", "next_step", "responsible")} == {
        "code": "clone_denied",
        "text": "No access.",
        "next_step": "Ask.",
        "responsible": "user",
    }
    assert stage.presence() is Presence.ABSENT
    assert row.run == 1


def test_a_clone_that_fails_without_a_word_still_says_something(stage: Stage, pending: Workspace) -> None:
    stage.look()
    stage.report(said({"type": "content", "status": "failed"}))
    failure = stage.work(seconds=5, ready=False).failure
    assert failure["code"] == "content_failed"
    assert failure["text"]
    assert failure["next_step"]


def test_start_after_a_failure_is_another_try(stage: Stage, owner: User, pending: Workspace) -> None:
    stage.look()
    stage.report(said({"type": "content", "status": "failed", "code": "x", "message": "x"}))
    failed = stage.work(seconds=5, ready=False)
    intents.start(failed, actor=owner, now=timezone.now())
    row = stage.work(seconds=5)
    assert (row.state, row.run, row.failure) == (State.RUNNING, 2, {})


def test_a_start_that_makes_no_progress_fails(stage: Stage, pending: Workspace) -> None:
    row = stage.work(seconds=290, ready=False)
    assert row.state == State.STARTING
    row = stage.work(seconds=30, ready=False)
    assert (row.state, row.failure["code"]) == (State.FAILED, "start_timeout")
    assert stage.presence() is Presence.ABSENT


def test_progress_gives_a_start_more_time(stage: Stage, pending: Workspace) -> None:
    stage.look()
    for step in range(2):
        stage.report(said({"type": "content", "status": "running", "progress": step / 10}))
        assert stage.work(seconds=200, ready=False).state == State.STARTING


def test_a_run_that_will_not_end_is_reported_and_still_asked(stage: Stage, owner: User, running: Workspace) -> None:
    stage.behave(hang_stop=True)
    intents.stop(running, actor=owner, now=timezone.now())
    row = stage.work(seconds=130)
    assert (row.state, row.failure["code"]) == (State.FAILED, "stop_timeout")
    assert row.look_again_at is not None
    stage.behave()
    stage.work(seconds=15)
    assert stage.presence() is Presence.ABSENT


@pytest.mark.parametrize("state", ["stopping", "stopped", "failed", "deleting", "deleted", "purged"])
def test_unknown_is_never_acted_on(stage: Stage, owner: User, workspace_factory: Factory, state: str) -> None:
    desired = {"deleting": "deleted", "deleted": "deleted", "purged": "deleted"}.get(state, "running")
    now = timezone.now()
    stage.give(workspace_factory(owner, state=state, desired=desired, purge_at=now, look_again_at=now))
    stage.runtime.ensure_volume(stage.workspace.slug)
    known = stage.runtime.list()
    stage.behave(observe_unknown=True)
    row = stage.work(seconds=30)
    assert row.state == state
    assert row.look_again_at is not None
    stage.behave()
    assert stage.runtime.list() == known


def test_a_runtime_that_cannot_be_asked_stops_nothing(stage: Stage, running: Workspace) -> None:
    stage.behave(fail={"observe": ClusterFault("cluster_away", "Away.")})
    stage.later(hours=3)
    for _ in range(20):
        assert stage.look().state == State.RUNNING
        stage.later(seconds=5)
    stage.behave()
    row = stage.work(seconds=20)
    assert (row.state, row.run) == (State.RUNNING, 1)


DISK_FULL = ClusterFault("disk_full", "The disk is full.", "Ask your administrator for space.")


def test_a_full_disk_is_waited_for(stage: Stage, pending: Workspace) -> None:
    stage.behave(fail={"ensure_volume": DISK_FULL})
    row = stage.work(seconds=60)
    assert row.state == State.STARTING
    step = Condition.objects.get(type="container")
    assert (step.status, step.code, step.message) == ("running", "disk_full", "The disk is full.")
    stage.behave()
    row = stage.work(seconds=10)
    assert (row.state, row.run) == (State.RUNNING, 1)
    step.refresh_from_db()
    assert (step.status, step.code) == ("done", "")


def test_a_disk_that_stays_full_is_named_in_the_failure(stage: Stage, pending: Workspace) -> None:
    stage.behave(fail={"ensure_run": DISK_FULL})
    row = stage.work(seconds=320)
    assert row.state == State.FAILED
    assert row.failure["code"] == "disk_full"
    assert row.failure["text"] == "The disk is full."
    assert row.failure["next_step"] == "Ask your administrator for space."
    assert row.failure["responsible"] == "cluster"


def test_what_cannot_pass_fails_at_once(stage: Stage, pending: Workspace) -> None:
    fault = UserFault("image_invalid", "There is no such image.", "Correct the image.")
    stage.behave(fail={"ensure_run": fault})
    row = stage.look()
    assert (row.state, row.failure["code"], row.failure["responsible"]) == (State.FAILED, "image_invalid", "user")


class Meanwhile(FakeRuntime):
    """Something happens just before a run is started."""

    def __init__(self, event: Callable[[], object]) -> None:
        super().__init__()
        self.event: Callable[[], object] | None = event

    def ensure_run(self, spec: RunSpec) -> Observation:
        if self.event is not None:
            event, self.event = self.event, None
            event()
        return super().ensure_run(spec)


def test_a_run_launched_after_a_stop_does_not_stay(stage: Stage, owner: User, pending: Workspace) -> None:
    stage.runtime = Meanwhile(lambda: intents.stop(stage.row(), actor=owner, now=timezone.now()))
    stage.look()
    row = stage.work(seconds=5)
    assert row.state == State.STOPPED
    assert stage.presence() is Presence.ABSENT


def test_a_launch_overtaken_by_stop_and_start_leaves_one_run(stage: Stage, owner: User, pending: Workspace) -> None:
    def overtake() -> None:
        intents.stop(stage.row(), actor=owner, now=timezone.now())
        stage.look()
        assert stage.row().state == State.STOPPED
        intents.start(stage.row(), actor=owner, now=timezone.now())

    stage.runtime = Meanwhile(overtake)
    stage.look()
    row = stage.work(seconds=20)
    assert (row.state, row.run) == (State.RUNNING, 2)
    assert stage.runtime.observe(row.slug).run == 2


def test_an_older_run_that_appears_is_cleared_away(stage: Stage, pending: Workspace) -> None:
    def appear() -> None:
        FakeRuntime.ensure_run(stage.runtime, RunSpec(pending.slug, 99, {}))

    stage.runtime = Meanwhile(appear)
    row = stage.look()
    assert row.state == State.STARTING
    assert stage.runtime.observe(row.slug).run == 99
    row = stage.work(seconds=20)
    assert (row.state, row.run) == (State.RUNNING, 1)
    assert stage.runtime.observe(row.slug).run == 1


def test_what_is_gone_is_let_be(stage: Stage, pending: Workspace) -> None:
    Workspace.objects.filter(pk=pending.pk).delete()
    reconcile(pending.pk, stage.runtime)
    assert stage.runtime.list() == []


def test_a_look_that_finds_nothing_new_writes_nothing(stage: Stage, running: Workspace) -> None:
    with CaptureQueriesContext(connection) as queries:
        reconcile(running.pk, stage.runtime)
    assert [query["sql"].split()[0] for query in queries] == ["SELECT"]


def test_a_start_takes_no_more_looks_at_the_runtime_than_it_needs(stage: Stage, pending: Workspace) -> None:
    looks: list[str] = []

    class Counting(FakeRuntime):
        def observe(self, name: str) -> Observation:
            looks.append(name)
            return stage.runtime.observe(name)

        def ensure_volume(self, name: str) -> None:
            stage.runtime.ensure_volume(name)

        def ensure_run(self, spec: RunSpec) -> Observation:
            return stage.runtime.ensure_run(spec)

    runtime = Counting()
    stage.look(runtime)
    assert len(looks) == 1, "before its launch: an older run may be there"
    stage.report()
    assert stage.look(runtime).state == State.RUNNING
    assert len(looks) == 2


def test_what_cannot_be_reached_yet_does_not_run_yet(stage: Stage, pending: Workspace) -> None:
    # In a cluster an agent may report before its node has told the pod's address.
    stage.behave(start_after=60)
    stage.look()
    stage.report()
    assert stage.look().state == State.STARTING
    stage.later(seconds=61)
    found = stage.look()
    assert found.state == State.RUNNING
    assert found.upstream["ide"]
