"""Redis goes away and comes back: requests are still answered, and the sweep does what was not nudged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from kernel import redis
from tests.services.stage import READY
from tests.support import git_repos
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually
from workspaces.models import Workspace
from workspaces.operator.reconcile import reconcile
from workspaces.runtime.fake import FakeRuntime
from workspaces.selectors import due
from workspaces.services import activity, report

pytestmark = pytest.mark.django_db(transaction=True)
Bearer = Callable[..., dict[str, str]]


@pytest.fixture
def away(valkey: ValkeyServer) -> Iterator[ValkeyServer]:
    valkey.stop()
    try:
        yield valkey
    finally:
        if not valkey.socket.exists():
            valkey.start()


def test_a_workspace_is_created_while_redis_is_away_and_started_when_it_is_back(
    owner: User, bearer: Bearer, away: ValkeyServer, tmp_path: Path
) -> None:
    repository = git_repos.create(tmp_path / "app.git", {"a": "b"}, branches={})
    headers = bearer(owner)
    answer = Client().post(
        "/api/v1/workspaces", {"repo": repository.url}, content_type="application/json", headers=headers
    )
    assert answer.status_code == 201
    away.start()
    workspace = Workspace.objects.get(pk=answer.json()["id"])
    assert due(now=timezone.now()) == [workspace.pk]
    runtime = FakeRuntime()
    reconcile(workspace.pk, runtime)
    workspace.refresh_from_db()
    report.apply(workspace, READY, now=timezone.now())
    reconcile(workspace.pk, runtime)
    workspace.refresh_from_db()
    assert workspace.state == "running"


@pytest.mark.parametrize(
    ("verb", "state", "desired"), [("start", "stopped", "stopped"), ("stop", "running", "running")]
)
def test_verbs_are_accepted_while_redis_is_away(
    owner: User,
    bearer: Bearer,
    workspace_factory: Callable[..., Workspace],
    away: ValkeyServer,
    verb: str,
    state: str,
    desired: str,
) -> None:
    workspace = workspace_factory(owner, state=state, desired=desired)
    answer = Client().post(f"/api/v1/workspaces/{workspace.pk}/{verb}", headers=bearer(owner))
    assert answer.status_code == 202
    assert due(now=timezone.now()) == [workspace.pk]


def test_a_report_and_a_flush_survive_without_redis(
    owner: User, workspace_factory: Callable[..., Workspace], away: ValkeyServer
) -> None:
    workspace = workspace_factory(owner, state="starting", run=1)
    report.apply(workspace, {**READY, "activity": {"editor": 1.0}}, now=timezone.now())
    assert workspace.conditions.count() == 2
    assert activity.flush(now=timezone.now()) == 0
    assert not redis.publish(redis.EVENTS, {"workspace": "x"})
    away.start()
    eventually(lambda: redis.publish(redis.EVENTS, {"workspace": "x"}), what="the same client works again")


def test_activity_reaches_the_row_in_bulk_and_never_goes_back(
    owner: User, workspace_factory: Callable[..., Workspace]
) -> None:
    now = timezone.now()
    workspace = workspace_factory(owner, state="running", run=1)
    report.apply(workspace, {**READY, "activity": {"editor": 30.0, "terminal": 5.0, "ports": None}}, now=now)
    report.apply(workspace, {**READY, "activity": {"editor": 60.0}}, now=now)
    assert activity.flush(now=now) == 1
    workspace.refresh_from_db()
    assert workspace.last_activity_at is not None
    assert abs(workspace.last_activity_at - (now - timedelta(seconds=5))) < timedelta(milliseconds=5)
    newer = now + timedelta(minutes=1)
    Workspace.objects.update(last_activity_at=newer)
    activity.flush(now=now)
    workspace.refresh_from_db()
    assert workspace.last_activity_at == newer


def test_a_strange_member_of_the_activity_set_does_not_stop_the_others(
    owner: User, workspace_factory: Callable[..., Workspace]
) -> None:
    now = timezone.now()
    workspace = workspace_factory(owner)
    redis.client().zadd(redis.ACTIVITY, {"not a uuid": now.timestamp(), str(workspace.pk): now.timestamp()})
    activity.flush(now=now)
    workspace.refresh_from_db()
    assert workspace.last_activity_at is not None
