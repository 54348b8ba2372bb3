"""Emptying the trash takes as long as it takes, and keeps nobody else waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import User
from kernel.errors import ClusterFault
from tests.services.stage import Stage
from tests.support.waiting import eventually
from workspaces.models import Workspace
from workspaces.operator.reconcile import reconcile
from workspaces.runtime.fake import FakeRuntime
from workspaces.states import State

Factory = Callable[..., Workspace]
REFUSED = ClusterFault("folder_refused", "The machine said no.", "Ask.", temporary=False)
ERROR = ClusterFault("machine_error", "The machine could not.", "Try again.")


class Slow(FakeRuntime):
    """Deletes a volume when told that it has taken long enough."""

    def __init__(self) -> None:
        super().__init__()
        self.over = threading.Event()
        self.deleting = 0
        self.most = 0

    def destroy_volume(self, name: str) -> None:
        with self._lock:
            self.deleting += 1
            self.most = max(self.most, self.deleting)
        self.over.wait(30)
        with self._lock:
            self.deleting -= 1
        super().destroy_volume(name)


@pytest.mark.django_db(transaction=True)
def test_big_volumes_leave_the_workers_threads_to_others(owner: User, workspace_factory: Factory) -> None:
    now, runtime = timezone.now(), Slow()
    values = {"state": "purged", "desired": "deleted", "purge_at": now, "look_again_at": now}
    due = [workspace_factory(owner, slug=f"w{number}", **values) for number in range(4)]
    waiting = workspace_factory(owner, look_again_at=now)
    for row in due:
        runtime.ensure_volume(row.slug)

    def look(pk: UUID) -> None:
        try:
            reconcile(pk, runtime)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as worker:
        try:
            for row in [*due, waiting]:
                worker.submit(look, row.pk)
            eventually(lambda: Workspace.objects.get(pk=waiting.pk).launched_run == 1, what="the start goes on")
        finally:
            runtime.over.set()
    assert runtime.most == 1
    later = list(Workspace.objects.filter(state="purged", look_again_at__gt=timezone.now()))
    assert len(later) == 3
    for row in later:
        reconcile(row.pk, runtime)
    assert [entry.name for entry in runtime.list()] == [waiting.slug]
    assert not Workspace.objects.filter(state="purged", purge_at__isnull=False).exists()


class Refusing(FakeRuntime):
    """Counts how often it is asked for what it cannot do."""

    asked = 0

    def destroy_volume(self, name: str) -> None:
        self.asked += 1
        super().destroy_volume(name)


@pytest.mark.django_db
@pytest.mark.parametrize("fault", [REFUSED, ERROR], ids=lambda fault: fault.code)
def test_what_cannot_be_deleted_is_tried_now_and_then(
    stage: Stage, owner: User, workspace_factory: Factory, fault: ClusterFault
) -> None:
    stage.runtime = runtime = Refusing()
    now = timezone.now()
    values = {"state": "purged", "desired": "deleted", "purge_at": now, "look_again_at": now}
    stage.give(workspace_factory(owner, **values))
    runtime.ensure_volume(stage.workspace.slug)
    stage.behave(fail={"destroy_volume": fault})
    row = stage.look()
    assert row.look_again_at is not None
    assert row.look_again_at - timezone.now() >= timedelta(minutes=10)
    stage.work(seconds=3 * 3600)
    assert 3 <= runtime.asked <= 19
    stage.behave()
    row = stage.work(seconds=2 * 3600)
    assert (row.state, row.purge_at, row.look_again_at, runtime.list()) == (State.PURGED, None, None, [])


@pytest.mark.django_db
def test_what_does_not_pass_by_itself_is_tried_less_and_less(
    stage: Stage, owner: User, workspace_factory: Factory
) -> None:
    stage.give(workspace_factory(owner, look_again_at=timezone.now()))
    running = stage.work(seconds=10)
    stage.behave(fail={"stop": REFUSED})
    Workspace.objects.update(
        state="stopped", desired="stopped", progress_at=timezone.now(), look_again_at=timezone.now()
    )

    def pause() -> timedelta:
        row = stage.look()
        assert row.look_again_at is not None
        return row.look_again_at - timezone.now()

    first = pause()
    stage.later(hours=3)
    assert first <= timedelta(seconds=5)
    assert timedelta(minutes=10) <= pause() <= timedelta(hours=1)
    stage.behave()
    stage.later(hours=1)
    assert stage.work(seconds=20).state == State.STOPPED
    assert stage.runtime.observe(running.slug).presence == "absent"
