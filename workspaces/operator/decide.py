"""What to do about one workspace, from what is known of it. Pure and total: every view has an answer.

Two rules are older than all others: *unknown* is never acted on, and nothing here ever deletes data except `PURGE`,
which needs a workspace that its owner deleted and whose time in the trash is over. What a copy of the volume asks for
comes after this, in `copying`.
"""

from __future__ import annotations

import dataclasses
import enum
from datetime import datetime, timedelta

from workspaces.runtime.port import HOPELESS, LOOKED_AT, Pace, Presence
from workspaces.states import Desired, State

# How often a run that ended by itself is started again before its owner must ask.
MOST_INTERRUPTIONS = 2
# A workspace that ran this long was healthy: earlier interruptions no longer count against it.
HEALTHY_AFTER = timedelta(hours=1)
# The agent refused what it was handed, and would the next time.
RUN_REFUSED = "run_refused"

# Its machine is needed by others, or goes away: once is nobody's fault, twice in a row has a reason that stays.
EVICTED = "evicted"
NODE_LOST = "node_lost"

# What does not end, or cannot be told, for so long is looked at less often.
PATIENCE = timedelta(minutes=5)
RARELY = 15.0
# A node tells a pod's address within a second, and the watch hears it: this is for when it did not.
ADDRESS = 1.0


class Action(enum.StrEnum):
    """What `reconcile` can do."""

    REST = "rest"
    WAIT = "wait"
    START = "start"
    LAUNCH = "launch"
    RETRY = "retry"
    MARK_RUNNING = "mark_running"
    BEGIN_STOP = "begin_stop"
    STOP_RUN = "stop_run"
    DESTROY_RUN = "destroy_run"
    MARK_STOPPED = "mark_stopped"
    FAIL = "fail"
    BEGIN_DELETE = "begin_delete"
    MARK_DELETED = "mark_deleted"
    PURGE = "purge"
    DESTROY_VOLUME = "destroy_volume"
    BEGIN_COPY = "begin_copy"
    SAVE_COPY = "save_copy"
    FREE_VOLUME = "free_volume"
    KEEP_VOLUME = "keep_volume"
    RESTORE_COPY = "restore_copy"
    FORGET_COPY = "forget_copy"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that a decision depends on.

    Attributes:
        run: number of the run that is wanted now; observed_run is the one that the runtime has, if any.
        launched_run: the last run that the runtime is known to have accepted.
        failed_generation: the intent under which it failed; a later one asks for another try.
        failed_ending: it failed because its end was overdue, not because a start or a run went wrong.
        running_since: when this run became ready, where it did.
        exit_reason: of the run that was seen, whether it ended or not; see `Observation.reason`.
        start_timeout, stop_timeout: since the last progress.
        reachable: whether the runtime says where the run is: a cluster may do so after the agent in it has reported.
        pace: how often the runtime has to be asked.
    """

    state: State
    desired: Desired
    generation: int = 1
    failed_generation: int = 0
    failed_ending: bool = False
    restart_pending: bool = False
    run: int = 0
    launched_run: int = 0
    interruptions: int = 0
    progress_at: datetime
    running_since: datetime | None = None
    purge_at: datetime | None = None
    presence: Presence = Presence.ABSENT
    observed_run: int | None = None
    exit_reason: str = ""
    ide_ready: bool = False
    reachable: bool = True
    content_failed: bool = False
    start_timeout: timedelta = timedelta(minutes=5)
    stop_timeout: timedelta = timedelta(minutes=2)
    pace: Pace = LOOKED_AT


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """The answer: what to do, why, and when to look again (None: only when something happens)."""

    action: Action
    reason: str = ""
    look_again_at: datetime | None = None


def decide(view: View, now: datetime) -> Decision:
    """The next step for a workspace. Never raises."""
    return _BY_STATE[view.state](view, now)


def _pending(view: View, now: datetime) -> Decision:
    if view.desired is Desired.DELETED:
        return Decision(Action.BEGIN_DELETE)
    if view.desired is Desired.STOPPED:
        return Decision(Action.MARK_STOPPED)
    return Decision(Action.START, look_again_at=now)


def _starting(view: View, now: datetime) -> Decision:
    if view.desired is not Desired.RUNNING:
        return Decision(Action.BEGIN_STOP)
    late = now - view.progress_at > view.start_timeout
    if view.presence is Presence.UNKNOWN:
        return Decision(Action.FAIL, _silence(view)) if late else _wait(now, view.pace.starting)
    if view.presence is not Presence.ABSENT and view.observed_run != view.run:
        return _clear(view, now)
    if view.presence is Presence.RUNNING:
        return _coming_up(view, now, late=late)
    if view.presence is Presence.EXITED or view.launched_run == view.run:
        return _ended_by_itself(view)
    return Decision(Action.FAIL, "start_timeout") if late else _launch(view, now)


def _launch(view: View, now: datetime) -> Decision:
    return Decision(Action.LAUNCH, look_again_at=now + timedelta(seconds=view.pace.starting))


def _coming_up(view: View, now: datetime, *, late: bool) -> Decision:
    if view.content_failed:
        return Decision(Action.FAIL, "content_failed")
    if view.exit_reason in HOPELESS:
        return Decision(Action.FAIL, view.exit_reason)
    if view.ide_ready and view.reachable:
        return Decision(Action.MARK_RUNNING, look_again_at=now + timedelta(seconds=view.pace.well))
    if late:
        return Decision(Action.FAIL, "start_timeout")
    return _wait(now, ADDRESS if view.ide_ready else view.pace.starting)


def _running(view: View, now: datetime) -> Decision:
    if view.desired is not Desired.RUNNING or view.restart_pending:
        return Decision(Action.BEGIN_STOP)
    if view.presence is Presence.UNKNOWN:
        return _wait(now, view.pace.starting)
    if view.presence is Presence.RUNNING and view.observed_run == view.run:
        return Decision(Action.REST, look_again_at=now + timedelta(seconds=view.pace.well))
    if view.running_since is not None and now - view.running_since > HEALTHY_AFTER:
        return Decision(Action.RETRY, view.exit_reason or "run_ended")
    return _ended_by_itself(view)


def _ended_by_itself(view: View) -> Decision:
    reason = view.exit_reason or "run_ended"
    most = {RUN_REFUSED: 0, EVICTED: 1}.get(reason, MOST_INTERRUPTIONS)
    return Decision(Action.RETRY if view.interruptions < most else Action.FAIL, reason)


def _stopping(view: View, now: datetime) -> Decision:
    if view.presence is Presence.ABSENT:
        return Decision(Action.MARK_STOPPED)
    return _overdue(view, now) or _clear(view, now)


def _overdue(view: View, now: datetime) -> Decision | None:
    """An end that does not come is told, whatever the reason; `failed` goes on trying."""
    if now - view.progress_at <= view.stop_timeout:
        return None
    return Decision(Action.FAIL, "stop_timeout" if view.presence is Presence.RUNNING else _silence(view))


def _stopped(view: View, now: datetime) -> Decision:
    if view.presence is not Presence.ABSENT:
        return (_silent(view, now) if view.desired is Desired.RUNNING else None) or _clear(view, now)
    if view.desired is Desired.DELETED:
        return Decision(Action.BEGIN_DELETE)
    if view.desired is Desired.RUNNING:
        return Decision(Action.START, look_again_at=now)
    return Decision(Action.REST)


def _silent(view: View, now: datetime) -> Decision | None:
    """A start that cannot begin, because nobody can tell whether a run is there, is told; nothing is done about it."""
    if view.presence is not Presence.UNKNOWN or now - view.progress_at <= view.start_timeout:
        return None
    return Decision(Action.FAIL, _silence(view))


def _silence(view: View) -> str:
    return NODE_LOST if view.exit_reason == NODE_LOST else "runtime_silent"


def _failed(view: View, now: datetime) -> Decision:
    again = view.desired is Desired.RUNNING and view.generation > view.failed_generation
    if view.presence is not Presence.ABSENT:
        return (_silent(view, now) if again else None) or _clear(view, now)
    if view.desired is Desired.DELETED:
        return Decision(Action.BEGIN_DELETE)
    if view.failed_ending:
        # The end has come after all: what was wanted goes on from there.
        return Decision(Action.MARK_STOPPED)
    return Decision(Action.START, look_again_at=now) if again else Decision(Action.REST)


def _deleting(view: View, now: datetime) -> Decision:
    if view.presence is Presence.ABSENT:
        # Restored before it reached the trash: nothing of it is gone yet.
        return Decision(Action.MARK_DELETED if view.desired is Desired.DELETED else Action.MARK_STOPPED)
    return _overdue(view, now) or _clear(view, now)


def _deleted(view: View, now: datetime) -> Decision:
    if view.presence is not Presence.ABSENT:
        return _clear(view, now)
    if view.purge_at is not None and view.purge_at <= now:
        return Decision(Action.PURGE)
    return Decision(Action.REST, look_again_at=view.purge_at)


def _purged(view: View, now: datetime) -> Decision:
    if view.presence is not Presence.ABSENT:
        return _clear(view, now)
    return Decision(Action.REST) if view.purge_at is None else Decision(Action.DESTROY_VOLUME)


def _clear(view: View, now: datetime) -> Decision:
    """One step towards having no run."""
    for_long = now - view.progress_at > PATIENCE
    if view.presence is Presence.RUNNING:
        pause = view.pace.starting if for_long else view.pace.ending
        return Decision(Action.STOP_RUN, look_again_at=now + timedelta(seconds=pause))
    if view.presence is Presence.EXITED:
        return Decision(Action.DESTROY_RUN, look_again_at=now)
    return _wait(now, max(view.pace.starting, RARELY) if for_long else view.pace.starting)


def _wait(now: datetime, seconds: float) -> Decision:
    return Decision(Action.WAIT, look_again_at=now + timedelta(seconds=seconds))


_BY_STATE = {
    State.PENDING: _pending,
    State.STARTING: _starting,
    State.RUNNING: _running,
    State.STOPPING: _stopping,
    State.STOPPED: _stopped,
    State.FAILED: _failed,
    State.DELETING: _deleting,
    State.DELETED: _deleted,
    State.PURGED: _purged,
}
