"""The trash as copies: what the operator does with volume and copy, and what its owner is told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from prometheus_client import REGISTRY

from accounts.models import User
from kernel.errors import ClusterFault, PlatformFault
from tests.operator.copystage import Watched, keep_copies
from tests.services.stage import Stage, together
from workspaces import checks
from workspaces.models import Condition, Event, Workspace
from workspaces.operator import copies
from workspaces.operator.reconcile import reconcile
from workspaces.runtime.errors import Failure
from workspaces.runtime.fake import FakeOptions, FakeRuntime
from workspaces.runtime.port import Presence
from workspaces.services import intents
from workspaces.states import CopyPhase, State

Factory = Callable[..., Workspace]
pytestmark = pytest.mark.django_db
AWAY = ClusterFault("registry_away", "The registry does not answer.", "Wait.")
GONE = ClusterFault("backup_missing", "There is no such copy.", "Choose another.", temporary=False)
KEEPS = ClusterFault("registry_keeps", "The registry does not delete.", "Ask.", temporary=False)


@pytest.fixture
def runtime(stage: Stage, settings: Any) -> Watched:
    keep_copies(settings, 1)
    stage.runtime = runtime = Watched()
    return runtime


@pytest.fixture
def typed(stage: Stage, runtime: Watched, owner: User, workspace_factory: Factory) -> Workspace:
    """It ran, and somebody wrote something."""
    stage.give(workspace_factory(owner, look_again_at=timezone.now()))
    row = stage.work(seconds=10)
    runtime.write(row.slug, "first")
    return row


@pytest.fixture
def kept(stage: Stage, typed: Workspace, owner: User) -> Workspace:
    """The same, deleted, and its volume gone."""
    return _deleted(stage, owner)


def _deleted(stage: Stage, owner: User, seconds: float = 60) -> Workspace:
    intents.delete(stage.row(), actor=owner, now=timezone.now())
    return stage.work(seconds=seconds)


def _back(stage: Stage, owner: User) -> Workspace:
    restored = intents.restore(stage.row(), actor=owner, now=timezone.now())
    return intents.start(restored, actor=owner, now=timezone.now())


def _notices() -> list[str]:
    return list(Event.objects.filter(kind="notice").values_list("text", flat=True))


def _counted(operation: str, outcome: str) -> float:
    return REGISTRY.get_sample_value("slipway_copies_total", {"operation": operation, "outcome": outcome}) or 0


def test_the_trash_keeps_a_copy_and_frees_the_volume(stage: Stage, runtime: Watched, kept: Workspace) -> None:
    assert (kept.state, kept.copy_phase) == (State.DELETED, CopyPhase.KEPT)
    assert kept.look_again_at == kept.purge_at
    assert runtime.list() == []
    assert runtime.copies == [f"{kept.slug}/trash2"]
    assert _notices() == ["Its files are kept as a copy; the volume was freed."]
    asked = len(runtime.asked)
    stage.work(seconds=3600)
    assert len(runtime.asked) == asked


def test_without_the_setting_the_trash_keeps_volumes(
    stage: Stage, runtime: Watched, typed: Workspace, owner: User, settings: Any
) -> None:
    keep_copies(settings, 0)
    row = _deleted(stage, owner, 3600)
    assert (row.copy_phase, row.look_again_at, runtime.copies) == (CopyPhase.NONE, row.purge_at, [])
    assert runtime.read(row.slug) == "first"


def test_what_never_ran_has_nothing_to_copy(
    stage: Stage, runtime: Watched, owner: User, workspace_factory: Factory
) -> None:
    stage.give(workspace_factory(owner, state="stopped", desired="stopped"))
    row = _deleted(stage, owner)
    assert (row.state, row.copy_phase, runtime.asked) == (State.DELETED, CopyPhase.NONE, [])


def test_a_start_makes_the_volume_anew_and_the_copy_is_forgotten_once_it_runs(
    stage: Stage, runtime: Watched, kept: Workspace, owner: User
) -> None:
    before = _counted("restore", "done")
    row = intents.restore(kept, actor=owner, now=timezone.now())
    assert stage.work(seconds=60).copy_phase == CopyPhase.KEPT
    assert runtime.list() == []
    intents.start(row, actor=owner, now=timezone.now())
    stage.behave(copy_after=20)
    waiting = stage.work(seconds=10)
    step = Condition.objects.get(type="volume", run=waiting.run)
    assert (step.status, step.code) == ("running", "restoring")
    assert step.message == "Restoring from the copy: The fake runtime plays this copy."
    row = stage.work(seconds=20)
    assert (row.state, row.copy_phase) == (State.RUNNING, CopyPhase.SPENT)
    assert runtime.read(row.slug) == "first"
    assert Condition.objects.get(type="volume", run=row.run).status == "done"
    row = stage.work(seconds=60)
    assert (row.copy_phase, runtime.copies) == (CopyPhase.NONE, [])
    assert _counted("restore", "done") == before + 1


def test_a_second_stay_in_the_trash_has_a_copy_of_its_own(
    stage: Stage, runtime: Watched, kept: Workspace, owner: User
) -> None:
    _back(stage, owner)
    row = stage.work(seconds=60)
    runtime.write(row.slug, "second")
    row = _deleted(stage, owner)
    assert (row.copy_phase, runtime.copies) == (CopyPhase.KEPT, [f"{row.slug}/trash{row.generation}"])
    _back(stage, owner)
    row = stage.work(seconds=60)
    assert (row.state, runtime.read(row.slug)) == (State.RUNNING, "second")


def test_restored_and_deleted_again_it_stays_a_copy(
    stage: Stage, runtime: Watched, kept: Workspace, owner: User
) -> None:
    intents.restore(kept, actor=owner, now=timezone.now())
    row = _deleted(stage, owner)
    assert (row.state, row.copy_phase, runtime.copies) == (State.DELETED, CopyPhase.KEPT, [f"{row.slug}/trash2"])
    assert runtime.asked.count("snapshot") == 1


def test_a_volume_that_never_ran_since_keeps_its_copy(
    stage: Stage, runtime: Watched, kept: Workspace, owner: User
) -> None:
    stage.behave(start_after=10_000)
    _back(stage, owner)
    row = stage.work(seconds=20, ready=False)
    assert (row.state, row.copy_phase) == (State.STARTING, CopyPhase.RESTORED)
    row = _deleted(stage, owner, 600)
    # Storage may not have filled the volume yet.
    assert (row.state, row.copy_phase, len(runtime.copies)) == (State.DELETED, CopyPhase.RESTORED, 1)
    assert [entry.has_volume for entry in runtime.list()] == [True]
    stage.behave()
    _back(stage, owner)
    row = stage.work(seconds=60)
    assert (row.state, row.copy_phase, runtime.read(row.slug)) == (State.RUNNING, CopyPhase.NONE, "first")


def test_whoever_restores_while_a_copy_is_made_wins(
    stage: Stage, runtime: Watched, typed: Workspace, owner: User
) -> None:
    stage.behave(copy_after=120)
    row = _deleted(stage, owner, 30)
    assert row.copy_phase == CopyPhase.SAVING
    _back(stage, owner)
    row = stage.work(seconds=20)
    assert (row.state, runtime.read(row.slug)) == (State.RUNNING, "first")
    row = stage.work(seconds=60)
    assert (row.copy_phase, runtime.copies, runtime.asked.count("free_volume")) == (CopyPhase.NONE, [], 0)


def test_a_copy_that_was_made_too_late_is_called_off(
    stage: Stage, runtime: Watched, typed: Workspace, owner: User
) -> None:
    def restore(operation: str) -> None:
        if operation == "snapshot":
            intents.restore(stage.row(), actor=owner, now=timezone.now())

    runtime.after = restore
    row = _deleted(stage, owner)
    assert (row.state, row.copy_phase, runtime.copies) == (State.STOPPED, CopyPhase.NONE, [])
    assert runtime.read(row.slug) == "first"


def test_a_copy_of_an_earlier_stay_says_nothing_of_a_later_one(
    stage: Stage, runtime: Watched, typed: Workspace, owner: User
) -> None:
    def live(operation: str) -> None:
        if operation == "snapshot":
            runtime.after = lambda _: None
            _back(stage, owner)
            row = stage.work(seconds=60)
            runtime.write(row.slug, "second")
            stage.behave(copy_after=600)
            _deleted(stage, owner, 20)

    runtime.after = live
    _deleted(stage, owner)
    row = stage.row()
    assert (row.state, row.copy_phase) == (State.DELETED, CopyPhase.SAVING)
    assert (row.copy["key"], row.copy.get("reference")) == (f"trash{row.generation}", None)
    stage.behave()
    assert stage.work(seconds=60).copy_phase == CopyPhase.KEPT
    _back(stage, owner)
    row = stage.work(seconds=60)
    assert (row.state, runtime.read(row.slug)) == (State.RUNNING, "second")


def test_purging_takes_the_copy_along(stage: Stage, runtime: Watched, kept: Workspace) -> None:
    stage.later(days=15)
    row = stage.work(seconds=60)
    assert (row.state, row.purge_at, row.copy_phase) == (State.PURGED, None, CopyPhase.NONE)
    assert (runtime.copies, runtime.list()) == ([], [])
    assert _notices() == []


@pytest.mark.parametrize("phase", ["saving", "stalled", "restored"])
def test_purging_takes_along_what_is_half_done(
    stage: Stage, runtime: Watched, typed: Workspace, owner: User, phase: str
) -> None:
    if phase == "restored":
        _deleted(stage, owner)
        stage.behave(start_after=10_000)
        _back(stage, owner)
        stage.work(seconds=20, ready=False)
    else:
        stage.behave(copy_after=10**9 if phase == "saving" else 0, copy_fails=AWAY if phase == "stalled" else None)
    row = _deleted(stage, owner)
    assert row.copy_phase == phase
    stage.later(days=15)
    row = stage.work(seconds=60)
    assert (row.state, row.purge_at, row.copy_phase) == (State.PURGED, None, CopyPhase.NONE)
    assert (runtime.copies, runtime.list()) == ([], [])


def test_a_copy_that_fails_is_told_once_tried_less_and_less_and_costs_nothing(
    stage: Stage, runtime: Watched, typed: Workspace, owner: User
) -> None:
    stage.behave(copy_fails=AWAY)
    row = _deleted(stage, owner)
    assert row.copy_phase == CopyPhase.STALLED
    row = stage.work(seconds=3 * 24 * 3600)
    assert 10 <= runtime.asked.count("snapshot") <= 25
    assert _notices() == ["Its files could not be copied, and stay where they are. The registry does not answer."]
    assert runtime.read(row.slug) == "first"
    stage.behave()
    assert stage.work(seconds=7 * 3600).copy_phase == CopyPhase.KEPT


def test_turned_off_it_calls_off_what_is_under_way_and_restores_what_is_kept(
    stage: Stage, runtime: Watched, typed: Workspace, owner: User, settings: Any
) -> None:
    stage.behave(copy_after=600)
    _deleted(stage, owner)
    keep_copies(settings, 0)
    row = stage.work(seconds=60)
    assert (row.copy_phase, runtime.copies, runtime.read(row.slug)) == (CopyPhase.NONE, [], "first")
    # A key that was called off is never used again, so this stay in the trash gets no other copy.
    keep_copies(settings, 1)
    stage.behave()
    stage.look()
    assert stage.work(seconds=60).copy_phase == CopyPhase.NONE
    intents.restore(stage.row(), actor=owner, now=timezone.now())
    assert _deleted(stage, owner).copy_phase == CopyPhase.KEPT
    keep_copies(settings, 0)
    _back(stage, owner)
    row = stage.work(seconds=60)
    assert (row.state, runtime.read(row.slug)) == (State.RUNNING, "first")


def test_only_so_many_are_copied_at_once(
    stage: Stage, runtime: Watched, owner: User, workspace_factory: Factory, settings: Any
) -> None:
    keep_copies(settings, 2)
    stage.behave(copy_after=600)
    now = timezone.now()
    values = {"state": "deleted", "desired": "deleted", "deleted_at": now, "purge_at": now + timedelta(days=9)}
    rows = [workspace_factory(owner, slug=f"w{n}-bcdfg", launched_run=1, run=1, **values) for n in range(4)]
    for row in rows:
        runtime.ensure_volume(row.slug)
        reconcile(row.pk, runtime)
    phases = [row.copy_phase for row in Workspace.objects.order_by("slug")]
    assert phases == ["saving", "saving", "", ""]
    waiting = Workspace.objects.get(pk=rows[2].pk)
    assert waiting.look_again_at == now + copies.SLOT_PAUSE
    # One that was taken out again holds nobody up.
    intents.restore(rows[0], actor=owner, now=now)
    reconcile(rows[2].pk, runtime)
    assert Workspace.objects.get(pk=rows[2].pk).copy_phase == "saving"


@pytest.mark.django_db(transaction=True)
def test_workers_at_once_do_not_take_more_than_there_are(
    owner: User, workspace_factory: Factory, settings: Any
) -> None:
    keep_copies(settings, 1)
    runtime = FakeRuntime(FakeOptions(copy_after=10_000))
    now = timezone.now()
    values = {"state": "deleted", "desired": "deleted", "deleted_at": now, "purge_at": now + timedelta(days=9)}
    rows = [workspace_factory(owner, slug=f"w{n}-bcdfg", launched_run=1, run=1, **values) for n in range(4)]
    for row in rows:
        runtime.ensure_volume(row.slug)
    assert together([lambda pk=row.pk: reconcile(pk, runtime) for row in rows]) == [None] * 4  # type: ignore[misc]
    assert Workspace.objects.filter(copy_phase="saving").count() == 1


def test_a_copy_that_is_gone_is_told_and_no_empty_volume_made_up(
    stage: Stage, runtime: Watched, kept: Workspace, owner: User
) -> None:
    stage.behave(copy_fails=GONE)
    _back(stage, owner)
    row = stage.work(seconds=60)
    assert (row.state, row.failure["code"], row.copy_phase) == (State.FAILED, "backup_missing", CopyPhase.KEPT)
    assert Condition.objects.get(type="volume", run=row.run).status == "failed"
    assert "ensure_run" not in runtime.asked[runtime.asked.index("snapshot") :]
    stage.behave()
    intents.start(row, actor=owner, now=timezone.now())
    row = stage.work(seconds=60)
    assert (row.state, runtime.read(row.slug)) == (State.RUNNING, "first")


def test_a_restore_that_waits_for_ever_meets_the_starts_deadline(
    stage: Stage, runtime: Watched, kept: Workspace, owner: User
) -> None:
    stage.behave(copy_after=100_000)
    _back(stage, owner)
    row = stage.work(seconds=400)
    assert (row.state, row.failure["code"], row.copy_phase) == (State.FAILED, "restoring", CopyPhase.KEPT)
    assert "The fake runtime plays this copy." in row.failure["text"]


def test_storage_that_nobody_expects_is_neither_used_nor_deleted(
    stage: Stage, runtime: Watched, kept: Workspace, owner: User
) -> None:
    FakeRuntime.ensure_volume(runtime, kept.slug)
    runtime.write(kept.slug, "whose?")
    _back(stage, owner)
    row = stage.work(seconds=60)
    assert (row.state, row.failure["code"]) == (State.FAILED, "volume_in_the_way")
    assert (runtime.read(kept.slug), len(runtime.copies)) == ("whose?", 1)
    runtime.destroy_volume(kept.slug)
    intents.start(row, actor=owner, now=timezone.now())
    row = stage.work(seconds=60)
    assert (row.state, runtime.read(row.slug)) == (State.RUNNING, "first")


@pytest.mark.parametrize(
    ("failure", "given_up"),
    [(AWAY, False), (GONE, False), (KEEPS, True), (PlatformFault("snapshots_unavailable", "None here."), True)],
    ids=["away", "other", "keeps", "unavailable"],
)
def test_a_copy_that_is_not_forgotten_keeps_nobody_waiting(
    stage: Stage, runtime: Watched, kept: Workspace, owner: User, failure: Failure, given_up: bool
) -> None:
    stage.behave(fail={"forget_snapshot": failure})
    _back(stage, owner)
    row = stage.work(seconds=3600)
    assert (row.state, stage.presence()) == (State.RUNNING, Presence.RUNNING)
    assert row.copy_phase == (CopyPhase.NONE if given_up else CopyPhase.SPENT)
    assert runtime.asked.count("forget_snapshot") == (1 if given_up else 6)
    assert len(runtime.copies) == 1
    stage.behave()
    row = stage.work(seconds=900)
    assert (row.copy_phase, len(runtime.copies)) == (CopyPhase.NONE, given_up)


def test_the_api_and_the_trash_say_that_it_is_a_copy(
    stage: Stage, kept: Workspace, owner_client: Client, owner: User
) -> None:
    assert owner_client.get(f"/api/v1/workspaces/{kept.pk}").json()["kept_as_copy"] is True
    assert b"kept as a copy" in owner_client.get("/trash").content
    _back(stage, owner)
    stage.work(seconds=60)
    assert owner_client.get(f"/api/v1/workspaces/{kept.pk}").json()["kept_as_copy"] is False


def test_a_runtime_without_copies_is_told_at_once(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_copies(settings, 1)
    for able in (True, False):
        monkeypatch.setattr(checks, "runtime", lambda able=able: FakeRuntime(FakeOptions(snapshots=able)))
        assert [error.id for error in checks.trash_can_be_copied()] == ([] if able else ["workspaces.E003"])
    keep_copies(settings, 0)
    assert checks.trash_can_be_copied() == []
