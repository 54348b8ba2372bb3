"""Keeping the trash as copies: one function per action of `copying`, each a single step that may be repeated.

Every change of phase is an UPDATE that holds only where the row is as it was read: state, generation, run and phase. A
worker that comes late therefore changes nothing, and what it still does to the runtime can hit nothing newer: a volume
is freed by its own name, a copy forgotten by its own address.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from kernel import observe
from kernel.errors import Failure, PlatformFault
from workspaces.models import Workspace
from workspaces.operator.actions import Act, Step, look_again
from workspaces.operator.copying import Kept
from workspaces.operator.decide import Action
from workspaces.runtime.errors import VolumeExists
from workspaces.runtime.port import Copying, CopyState, SnapshotRef
from workspaces.selectors import conditions_of
from workspaces.services import conditions, events
from workspaces.states import ConditionStatus, ConditionType, CopyPhase, EventKind, State

log = structlog.get_logger(__name__)

# As many copies as may be made at once are being made.
SLOT_PAUSE = timedelta(minutes=1)
FIRST_PAUSE = timedelta(minutes=5)
LONGEST_PAUSE = timedelta(hours=6)
FORGET_PAUSE = timedelta(minutes=10)
# Neither passes by itself, and both leave a copy that no deletion of ours can reach.
_OUT_OF_REACH = frozenset({"registry_keeps", "snapshots_unavailable"})
# Of the transaction in which slots are counted, on PostgreSQL.
_SLOTS = 0x736C6F74
_RESTORING = "restoring"


def kept_of(workspace: Workspace) -> Kept:
    """What a decision depends on, from the row."""
    copy = workspace.copy
    not_before = copy.get("not_before")
    return Kept(
        phase=CopyPhase(workspace.copy_phase),
        generation=copy.get("generation", 0),
        run=copy.get("run", 0),
        not_before=datetime.fromisoformat(not_before) if not_before else None,
        wanted=settings.ENVIRONMENT.trash_copies > 0,
    )


def _move(workspace: Workspace, phase: CopyPhase, copy: dict[str, Any], **fields: Any) -> bool:
    """Change the phase if nothing happened to the workspace since it was read, and have it looked at again."""
    changes = {"copy_phase": phase.value, "copy": copy, "look_again_at": timezone.now(), **fields}
    return bool(_unchanged(workspace).update(**changes))


def _unchanged(workspace: Workspace) -> Any:
    return Workspace.objects.filter(
        pk=workspace.pk,
        state=workspace.state,
        generation=workspace.generation,
        run=workspace.run,
        copy_phase=workspace.copy_phase,
    )


def _begin(step: Step) -> bool:
    workspace, now = step.workspace, timezone.now()
    copy = workspace.copy
    if workspace.copy_phase == CopyPhase.NONE.value:
        generation = workspace.generation
        copy = {
            "key": f"trash{generation}",
            "generation": generation,
            "run": workspace.launched_run,
            "asked_at": now.isoformat(),
            "tries": 0,
        }
    with transaction.atomic():
        _count_alone()
        at_work = Workspace.objects.filter(state=State.DELETED.value, copy_phase=CopyPhase.SAVING.value).count()
        free = at_work < settings.ENVIRONMENT.trash_copies
        begun = free and _move(workspace, CopyPhase.SAVING, copy)
    if not free:
        look_again(workspace, now + SLOT_PAUSE)
    return begun


def _count_alone() -> None:
    """Until the transaction ends: two that only count would both find the last slot free. SQLite has one writer."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_SLOTS])


def _save(step: Step) -> bool:
    workspace = step.workspace
    created = workspace.deleted_at or workspace.progress_at
    try:
        made = step.runtime.snapshot(workspace.slug, key=workspace.copy["key"], created=created)
        _check(made)
    except Failure as failure:
        return _stall(workspace, failure)
    if made.state is not CopyState.PRESENT or made.snapshot is None:
        look_again(workspace, step.decision.look_again_at)
        return False
    found = made.snapshot
    copy = workspace.copy | {
        "kind": found.kind,
        "reference": found.reference,
        "digest": found.digest,
        "size": found.size,
        "volume": made.volume,
    }
    # From here on the copy counts. Whoever restores it at this moment wins, or loses, as a whole.
    done = _move(workspace, CopyPhase.FREEING, copy)
    if done:
        _note("save", timezone.now() - datetime.fromisoformat(copy["asked_at"]))
        log.info("copy_made", workspace=str(workspace.pk), reference=found.reference, size=found.size)
    return done


def _stall(workspace: Workspace, failure: Failure) -> bool:
    """Leave it for later, so that others have its slot."""
    copy = workspace.copy
    tries = copy["tries"] + 1
    pause = min(FIRST_PAUSE * 2 ** min(tries - 1, 10), LONGEST_PAUSE)
    news = copy.get("failure") != failure.code
    copy = copy | {"tries": tries, "failure": failure.code, "not_before": (timezone.now() + pause).isoformat()}
    log.warning("copy_failed", workspace=str(workspace.pk), failure=failure.code, detail=failure.log_text)
    observe.COPIES.labels("save", "failed").inc()
    with transaction.atomic():
        done = _move(workspace, CopyPhase.STALLED, copy)
        if done and news:
            text = f"Its files could not be copied, and stay where they are. {failure.user_text}"
            events.record(workspace, EventKind.NOTICE, text=text, data={"code": failure.code})
    return done


def _free(step: Step) -> bool:
    workspace = step.workspace
    found = _check(step.runtime.free_volume(workspace.slug, volume=workspace.copy["volume"]))
    if found.state is not CopyState.ABSENT:
        return _wait(step, found, "Waiting for the old volume to be deleted")
    with transaction.atomic():
        done = _move(workspace, CopyPhase.KEPT, workspace.copy)
        if done:
            events.record(workspace, EventKind.NOTICE, text="Its files are kept as a copy; the volume was freed.")
    if done:
        observe.COPIES.labels("free", "done").inc()
    return done


def _keep_volume(step: Step) -> bool:
    workspace = step.workspace
    log.warning("volume_written_since", workspace=str(workspace.pk), reference=workspace.copy["reference"])
    observe.COPIES.labels("free", "given_up").inc()
    # The copy stays until its owner was let in, as if the volume had been made from it.
    return _move(workspace, CopyPhase.RESTORED, workspace.copy)


def _restore(step: Step) -> bool:
    workspace = step.workspace
    try:
        found = _check(step.runtime.restore(workspace.slug, _reference(workspace)))
    except VolumeExists as error:
        observe.COPIES.labels("restore", "failed").inc()
        raise _in_the_way(workspace, error) from error
    except Failure:
        observe.COPIES.labels("restore", "failed").inc()
        raise
    if found.state is not CopyState.PRESENT:
        return _wait(step, found, "Restoring from the copy")
    now = timezone.now()
    with transaction.atomic():
        done = _move(workspace, CopyPhase.RESTORED, workspace.copy, progress_at=now)
        if done:
            conditions.put(workspace, ConditionType.VOLUME, ConditionStatus.DONE, now=now)
    if done:
        row = next((row for row in conditions_of(workspace) if row.type == ConditionType.VOLUME.value), None)
        _note("restore", now - ((row and row.started_at) or now))
        log.info("copy_restored", workspace=str(workspace.pk), reference=workspace.copy["reference"])
    return done


def _in_the_way(workspace: Workspace, error: VolumeExists) -> PlatformFault:
    """Which of the two holds the newer work only people can tell: the database may be that of an older backup."""
    return PlatformFault(
        "volume_in_the_way",
        "There is storage where the copy of the workspace's files belongs. Neither was touched.",
        "Ask your administrator to see which of them holds your files, and to remove the other; the log names both.",
        log_text=f"{error.volume} of {workspace.slug} is in the way of {workspace.copy['reference']}",
    )


def _wait(step: Step, found: Copying, text: str) -> bool:
    """Look again later. Where a start waits for this, its owner is told what for."""
    workspace, now = step.workspace, timezone.now()
    if workspace.state == State.STARTING.value:
        # What moves may take its time. What waits for something, such as room, has until the start's deadline.
        progress_at = workspace.progress_at if found.message or found.state is CopyState.UNKNOWN else now
        with transaction.atomic():
            if _unchanged(workspace).update(progress_at=progress_at):
                conditions.put(
                    workspace,
                    ConditionType.VOLUME,
                    ConditionStatus.RUNNING,
                    now=now,
                    code=_RESTORING,
                    message=f"{text}: {found.message}" if found.message else text,
                )
    look_again(workspace, step.decision.look_again_at)
    return False


def _forget(step: Step) -> bool:
    workspace, copy = step.workspace, step.workspace.copy
    if workspace.copy_phase == CopyPhase.RESTORED.value:
        return _move(workspace, CopyPhase.SPENT, copy)
    try:
        found = _check(
            step.runtime.forget_snapshot(workspace.slug, _reference(workspace))
            if copy.get("reference")
            else step.runtime.call_off_snapshot(workspace.slug, key=copy["key"])
        )
    except Failure as failure:
        return _not_forgotten(workspace, failure)
    if found.state is CopyState.ABSENT:
        observe.COPIES.labels("forget", "done").inc()
        return _move(workspace, CopyPhase.NONE, _forgotten(workspace))
    look_again(workspace, step.decision.look_again_at)
    return False


def _not_forgotten(workspace: Workspace, failure: Failure) -> bool:
    copy = workspace.copy
    given_up = failure.code in _OUT_OF_REACH and not failure.temporary
    observe.COPIES.labels("forget", "given_up" if given_up else "failed").inc()
    log.warning(
        "copy_left_behind" if given_up else "copy_not_forgotten",
        workspace=str(workspace.pk),
        name=workspace.slug,
        reference=copy.get("reference", ""),
        key=copy["key"],
        failure=failure.code,
        detail=failure.log_text,
    )
    if given_up:
        return _move(workspace, CopyPhase.NONE, _forgotten(workspace))
    not_before = timezone.now() + FORGET_PAUSE
    return _move(workspace, CopyPhase.SPENT, copy | {"not_before": not_before.isoformat()})


def _forgotten(workspace: Workspace) -> dict[str, Any]:
    # So that its key is not used again.
    return {"generation": workspace.copy["generation"]}


def _reference(workspace: Workspace) -> SnapshotRef:
    copy = workspace.copy
    return SnapshotRef(copy["kind"], copy["reference"], copy["digest"], copy["size"])


def _check(found: Copying) -> Copying:
    """The same unless it failed.

    Raises:
        Failure: it did, with the reason that was given.
    """
    if found.state is CopyState.FAILED:
        raise found.failure or PlatformFault("copy_failed", "A copy failed, and nobody said why.", "Ask the operator.")
    return found


def _note(operation: str, took: timedelta) -> None:
    observe.COPIES.labels(operation, "done").inc()
    observe.COPY_SECONDS.labels(operation).observe(max(0.0, took.total_seconds()))


ACTIONS: dict[Action, Act] = {
    Action.BEGIN_COPY: _begin,
    Action.SAVE_COPY: _save,
    Action.FREE_VOLUME: _free,
    Action.KEEP_VOLUME: _keep_volume,
    Action.RESTORE_COPY: _restore,
    Action.FORGET_COPY: _forget,
}
