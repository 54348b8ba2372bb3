"""A worker that is killed at any point: the sweep finds what it left, and there is never a second run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import User
from tests.services.stage import Stage
from workspaces.models import Workspace
from workspaces.operator.reconcile import reconcile
from workspaces.operator.sweep import sweep_orphans
from workspaces.runtime.fake import FakeRuntime
from workspaces.runtime.port import Observation, Presence, RunSpec
from workspaces.services import intents
from workspaces.states import State

Factory = Callable[..., Workspace]
pytestmark = pytest.mark.django_db(transaction=True)
MOST_POINTS = 200


class Killed(BaseException):
    """Like SIGKILL, nothing in the product catches it."""


class Killer:
    """Counts the points at which a worker can die, and dies at the chosen one.

    A point is before each statement that writes to the database (inside a transaction: what came before is undone),
    and before and after each operation of the runtime.
    """

    def __init__(self, at: int) -> None:
        self.left = at
        self.struck = False

    def point(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.struck = True
            raise Killed

    def statement(self, execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if sql.split(maxsplit=1)[0] in {"INSERT", "UPDATE", "DELETE"}:
            self.point()
        return execute(sql, *rest)


class Mortal(FakeRuntime):
    """A runtime whose caller may die before or after each operation."""

    def __init__(self) -> None:
        super().__init__()
        self.killer = Killer(0)
        self.launches = 0

    @contextlib.contextmanager
    def _points(self) -> Iterator[None]:
        self.killer.point()
        yield
        self.killer.point()

    def ensure_volume(self, name: str) -> None:
        with self._points():
            super().ensure_volume(name)

    def ensure_run(self, spec: RunSpec) -> Observation:
        with self._points():
            self.launches += super().observe(spec.name).presence is Presence.ABSENT
            return super().ensure_run(spec)

    def stop(self, name: str, *, grace: float) -> None:
        with self._points():
            super().stop(name, grace=grace)

    def destroy_run(self, name: str) -> None:
        with self._points():
            super().destroy_run(name)

    def destroy_volume(self, name: str) -> None:
        with self._points():
            super().destroy_volume(name)


@pytest.fixture
def mortal(stage: Stage) -> Mortal:
    stage.runtime = Mortal()
    return stage.runtime


def _until_killed(stage: Stage, mortal: Mortal, at: int) -> bool:
    """A worker that looks again and again, with an agent that reports, until it is killed. False: it finished first."""
    mortal.killer = killer = Killer(at)
    try:
        for _ in range(12):
            with connection.execute_wrapper(killer.statement):
                reconcile(stage.workspace.pk, mortal)
            mortal.killer = Killer(0)
            stage.report()
            mortal.killer = killer
            stage.clock.shift(1)
    except Killed:
        connection.close()
    mortal.killer = Killer(0)
    return killer.struck


def _every_point(
    stage: Stage, mortal: Mortal, begin: Callable[[int], object], check: Callable[[], None], *, pause: int = 0
) -> int:
    for at in range(1, MOST_POINTS):
        begin(at)
        struck = _until_killed(stage, mortal, at)
        stage.later(seconds=pause)
        stage.work(seconds=20)
        check()
        if not struck:
            return at - 1
    raise AssertionError("it never finishes")


def test_killed_at_any_point_of_a_start(stage: Stage, mortal: Mortal, owner: User, workspace_factory: Factory) -> None:
    def begin(at: int) -> None:
        mortal.launches = 0
        stage.give(workspace_factory(owner, slug=f"w{at}-bcdfg", look_again_at=timezone.now()))

    def check() -> None:
        row = stage.row()
        assert (row.state, row.run, mortal.launches) == (State.RUNNING, 1, 1)
        assert stage.presence() is Presence.RUNNING

    assert _every_point(stage, mortal, begin, check) > 10


@pytest.mark.parametrize(
    ("intent", "state", "presence", "launches"),
    [
        (intents.stop, State.STOPPED, Presence.ABSENT, 0),
        (intents.delete, State.DELETED, Presence.ABSENT, 0),
        (intents.restart, State.RUNNING, Presence.RUNNING, 1),
    ],
    ids=["stop", "delete", "restart"],
)
def test_killed_at_any_point_of_what_follows(  # noqa: PLR0917 - Fixtures and the table's columns.
    stage: Stage,
    mortal: Mortal,
    owner: User,
    workspace_factory: Factory,
    intent: Callable[..., Workspace],
    state: State,
    presence: Presence,
    launches: int,
) -> None:
    def begin(at: int) -> None:
        stage.give(workspace_factory(owner, slug=f"w{at}-bcdfg", look_again_at=timezone.now()))
        stage.work(seconds=3)
        mortal.launches = 0
        intent(stage.row(), actor=owner, now=timezone.now())

    def check() -> None:
        assert stage.row().state == state
        assert stage.presence() is presence
        assert mortal.launches == launches

    assert _every_point(stage, mortal, begin, check) > 6


def test_killed_at_any_point_of_a_crash_and_its_repair(
    stage: Stage, mortal: Mortal, owner: User, workspace_factory: Factory
) -> None:
    def begin(at: int) -> None:
        stage.give(workspace_factory(owner, slug=f"w{at}-bcdfg", look_again_at=timezone.now()))
        stage.work(seconds=3)
        mortal.launches = 0
        FakeRuntime.destroy_run(mortal, stage.workspace.slug)
        stage.later(seconds=20)

    def check() -> None:
        row = stage.row()
        assert (row.state, row.run, mortal.launches) == (State.RUNNING, 2, 1)

    assert _every_point(stage, mortal, begin, check) > 6


def test_killed_at_any_point_of_emptying_the_trash(
    stage: Stage, mortal: Mortal, owner: User, workspace_factory: Factory
) -> None:
    def begin(at: int) -> None:
        now = timezone.now()
        values = {"state": "deleted", "desired": "deleted", "purge_at": now, "look_again_at": now}
        stage.give(workspace_factory(owner, slug=f"w{at}-bcdfg", **values))
        FakeRuntime.ensure_volume(mortal, stage.workspace.slug)

    def check() -> None:
        assert stage.row().state == State.PURGED
        assert mortal.list() == []

    assert _every_point(stage, mortal, begin, check, pause=601) > 2


def test_a_run_that_a_killed_worker_left_in_a_stopped_workspace_is_found(
    stage: Stage, owner: User, workspace_factory: Factory
) -> None:
    workspace = stage.give(workspace_factory(owner, state="stopped", desired="stopped"))
    stage.runtime.ensure_volume(workspace.slug)
    stage.runtime.ensure_run(RunSpec(workspace.slug, 7, {}))
    assert stage.work(seconds=10).state == State.STOPPED
    assert stage.presence() is Presence.RUNNING
    assert sweep_orphans(stage.runtime) == []
    stage.look()
    stage.work(seconds=10)
    assert stage.presence() is Presence.ABSENT
