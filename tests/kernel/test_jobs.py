"""Jobs: one that waits stands for all that would follow it, and never for what came after it had begun."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery.contrib.testing.worker import start_worker
from celery.exceptions import OperationalError
from django.db import transaction

from accounts.models import User
from config.celery import app
from kernel import jobs, redis
from tests.support.queue import asked
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually
from workspaces import tasks
from workspaces.models import Workspace

TASK = "workspaces.reconcile"
Factory = Callable[..., Workspace]
pytestmark = pytest.mark.django_db(transaction=True)


def test_one_that_waits_stands_for_those_that_follow() -> None:
    for _ in range(3):
        jobs.enqueue(TASK, "a")
        jobs.enqueue_each(TASK, ["b", "a", "c", "b"])
    assert asked() == ["a", "b", "c"]


def test_what_is_urgent_does_not_wait_for_what_is_not_and_what_comes_later_stands_for_nothing() -> None:
    jobs.enqueue(TASK, "a", countdown=3)
    jobs.enqueue(TASK, "a")
    for _ in range(2):
        jobs.enqueue(TASK, "a", urgent=True)
    assert asked() == ["a"] * 3


def test_each_task_and_each_id_has_its_own() -> None:
    jobs.enqueue("workspaces.settle_dev_access", "a")
    jobs.enqueue(TASK, "a")
    jobs.enqueue(TASK, "b")
    assert asked() == ["a", "b"]
    assert asked("workspaces.settle_dev_access") == ["a"]


def test_what_is_rolled_back_keeps_nothing_from_being_asked() -> None:
    with transaction.atomic():
        jobs.enqueue(TASK, "a")
        transaction.set_rollback(True)
    jobs.enqueue(TASK, "a")
    assert asked() == ["a"]


@pytest.mark.parametrize("send", [lambda: jobs.enqueue(TASK, "a"), lambda: jobs.enqueue_each(TASK, ["a", "b"])])
def test_what_the_broker_did_not_take_can_be_asked_again(
    send: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise OperationalError("the broker went away in between")

    with monkeypatch.context() as patch:
        patch.setattr(tasks.reconcile, "apply_async", refuses)
        send()
    assert asked() == []
    send()
    assert asked()[:1] == ["a"]


def test_a_broker_that_lost_its_memory_lost_the_notes_as_well(valkey: ValkeyServer) -> None:
    jobs.enqueue(TASK, "a")
    valkey.stop()
    valkey.start()
    assert asked() == []
    jobs.enqueue(TASK, "a")
    assert asked() == ["a"]


@pytest.fixture
def worker() -> Iterator[None]:
    with start_worker(app, perform_ping_check=False, pool="threads", concurrency=1, loglevel="WARNING"):
        yield


@pytest.mark.parametrize("urgent", [False, True])
@pytest.mark.usefixtures("worker")
def test_what_is_asked_while_a_worker_looks_is_looked_at_again(
    owner: User, workspace_factory: Factory, monkeypatch: pytest.MonkeyPatch, urgent: bool
) -> None:
    row, looks = workspace_factory(owner), []

    def look(workspace_id: Any, _: Any) -> None:
        looks.append(str(workspace_id))
        if len(looks) == 1:
            # As if it changed right after it was read.
            jobs.enqueue(TASK, str(row.pk), urgent=urgent)

    monkeypatch.setattr(tasks, "reconcile_workspace", look)
    jobs.enqueue(TASK, str(row.pk), urgent=urgent)
    assert eventually(lambda: len(looks) == 2)
    assert not list(redis.client().scan_iter("slipway:asked:*"))
