"""The operator's decision as a table: state x desired x what was seen -> action."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workspaces.operator.decide import HEALTHY_AFTER, MOST_INTERRUPTIONS, Action, View, decide
from workspaces.runtime.port import HOPELESS, Pace, Presence
from workspaces.states import Desired, State

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(minutes=30)

PENDING, STARTING, RUNNING, STOPPING = State.PENDING, State.STARTING, State.RUNNING, State.STOPPING
STOPPED, FAILED, DELETING, DELETED, PURGED = (
    State.STOPPED,
    State.FAILED,
    State.DELETING,
    State.DELETED,
    State.PURGED,
)
RUN, STOP, DELETE = Desired.RUNNING, Desired.STOPPED, Desired.DELETED
ABSENT, ALIVE, EXITED, UNKNOWN = Presence.ABSENT, Presence.RUNNING, Presence.EXITED, Presence.UNKNOWN

Row = tuple[State, Desired, Presence, dict[str, Any], Action]
HERE: dict[str, Any] = {"run": 3, "observed_run": 3}
OLDER: dict[str, Any] = {"run": 3, "observed_run": 2}
SPENT: dict[str, Any] = {"interruptions": MOST_INTERRUPTIONS}
LATE: dict[str, Any] = {"progress_at": LONG_AGO}
# It failed because its end was overdue; or another try was asked for after its failure.
ENDING: dict[str, Any] = {"generation": 2, "failed_generation": 2, "failed_ending": True}
AGAIN: dict[str, Any] = {"generation": 3, "failed_generation": 2}

TABLE: list[Row] = [
    # Accepted, and nothing has happened yet.
    (PENDING, RUN, ABSENT, {}, Action.START),
    (PENDING, STOP, ABSENT, {}, Action.MARK_STOPPED),
    (PENDING, DELETE, ABSENT, {}, Action.BEGIN_DELETE),
    # On the way up.
    (STARTING, RUN, ABSENT, {"run": 3}, Action.LAUNCH),
    (STARTING, RUN, ABSENT, {"run": 3, **LATE}, Action.FAIL),
    (STARTING, RUN, ABSENT, {"run": 3, "launched_run": 3}, Action.RETRY),
    (STARTING, RUN, ABSENT, {"run": 3, "launched_run": 3, **SPENT}, Action.FAIL),
    (STARTING, RUN, ALIVE, HERE, Action.WAIT),
    (STARTING, RUN, ALIVE, {**HERE, "ide_ready": True}, Action.MARK_RUNNING),
    (STARTING, RUN, ALIVE, {**HERE, "ide_ready": True, **LATE}, Action.MARK_RUNNING),
    (STARTING, RUN, ALIVE, {**HERE, "ide_ready": True, "reachable": False}, Action.WAIT),
    (STARTING, RUN, ALIVE, {**HERE, "ide_ready": True, "reachable": False, **LATE}, Action.FAIL),
    (STARTING, RUN, ALIVE, {**HERE, "content_failed": True}, Action.FAIL),
    (STARTING, RUN, ALIVE, {**HERE, **LATE}, Action.FAIL),
    *[(STARTING, RUN, ALIVE, {**HERE, "exit_reason": reason}, Action.FAIL) for reason in sorted(HOPELESS)],
    (STARTING, RUN, ALIVE, {**HERE, "exit_reason": "starting"}, Action.WAIT),
    (STARTING, RUN, ALIVE, OLDER, Action.STOP_RUN),
    (STARTING, RUN, EXITED, OLDER, Action.DESTROY_RUN),
    (STARTING, RUN, EXITED, HERE, Action.RETRY),
    (STARTING, RUN, EXITED, {**HERE, **SPENT}, Action.FAIL),
    (STARTING, RUN, UNKNOWN, {}, Action.WAIT),
    (STARTING, RUN, UNKNOWN, LATE, Action.FAIL),
    *[(STARTING, STOP, seen, HERE, Action.BEGIN_STOP) for seen in Presence],
    *[(STARTING, DELETE, seen, HERE, Action.BEGIN_STOP) for seen in Presence],
    # Up.
    (RUNNING, RUN, ALIVE, HERE, Action.REST),
    (RUNNING, RUN, ALIVE, {**HERE, "restart_pending": True}, Action.BEGIN_STOP),
    (RUNNING, RUN, ALIVE, OLDER, Action.RETRY),
    (RUNNING, RUN, EXITED, HERE, Action.RETRY),
    (RUNNING, RUN, ABSENT, HERE, Action.RETRY),
    (RUNNING, RUN, EXITED, {**HERE, **SPENT, "running_since": NOW - timedelta(minutes=1)}, Action.FAIL),
    (RUNNING, RUN, EXITED, {**HERE, **SPENT, "running_since": NOW - 2 * HEALTHY_AFTER}, Action.RETRY),
    (RUNNING, RUN, EXITED, {**HERE, "exit_reason": "evicted"}, Action.RETRY),
    (RUNNING, RUN, EXITED, {**HERE, "exit_reason": "evicted", "interruptions": 1}, Action.FAIL),
    (RUNNING, RUN, UNKNOWN, LATE, Action.WAIT),
    (RUNNING, RUN, UNKNOWN, {**LATE, "exit_reason": "node_lost"}, Action.WAIT),
    (RUNNING, STOP, ALIVE, HERE, Action.BEGIN_STOP),
    (RUNNING, DELETE, ALIVE, HERE, Action.BEGIN_STOP),
    # On the way down, whatever is wanted next.
    *[(STOPPING, desired, ABSENT, {}, Action.MARK_STOPPED) for desired in Desired],
    *[(STOPPING, desired, EXITED, HERE, Action.DESTROY_RUN) for desired in Desired],
    *[(STOPPING, desired, ALIVE, HERE, Action.STOP_RUN) for desired in Desired],
    (STOPPING, STOP, ALIVE, {**HERE, **LATE}, Action.FAIL),
    (STOPPING, STOP, UNKNOWN, {}, Action.WAIT),
    (STOPPING, STOP, UNKNOWN, LATE, Action.FAIL),
    (STOPPING, STOP, EXITED, LATE, Action.FAIL),
    # Down.
    (STOPPED, STOP, ABSENT, {}, Action.REST),
    (STOPPED, RUN, ABSENT, {}, Action.START),
    (STOPPED, DELETE, ABSENT, {}, Action.BEGIN_DELETE),
    (STOPPED, STOP, ALIVE, HERE, Action.STOP_RUN),
    (STOPPED, STOP, EXITED, HERE, Action.DESTROY_RUN),
    (STOPPED, RUN, ALIVE, HERE, Action.STOP_RUN),
    (STOPPED, RUN, UNKNOWN, {}, Action.WAIT),
    (STOPPED, RUN, UNKNOWN, LATE, Action.FAIL),
    (STOPPED, STOP, UNKNOWN, LATE, Action.WAIT),
    (STOPPED, DELETE, UNKNOWN, LATE, Action.WAIT),
    # Failed: rests until somebody asks again, but never keeps a run.
    (FAILED, RUN, ABSENT, {"generation": 2, "failed_generation": 2}, Action.REST),
    (FAILED, RUN, ABSENT, {"generation": 3, "failed_generation": 2}, Action.START),
    (FAILED, STOP, ABSENT, {"generation": 3, "failed_generation": 2}, Action.REST),
    (FAILED, DELETE, ABSENT, {}, Action.BEGIN_DELETE),
    (FAILED, RUN, ALIVE, {**HERE, "generation": 3}, Action.STOP_RUN),
    (FAILED, DELETE, EXITED, HERE, Action.DESTROY_RUN),
    (FAILED, DELETE, UNKNOWN, {}, Action.WAIT),
    (FAILED, RUN, UNKNOWN, AGAIN, Action.WAIT),
    (FAILED, RUN, UNKNOWN, {**AGAIN, **LATE}, Action.FAIL),
    (FAILED, RUN, UNKNOWN, {**ENDING, **LATE}, Action.WAIT),
    # An end that was overdue has come after all: what is wanted goes on from there.
    (FAILED, RUN, ABSENT, ENDING, Action.MARK_STOPPED),
    (FAILED, STOP, ABSENT, ENDING, Action.MARK_STOPPED),
    (FAILED, DELETE, ABSENT, ENDING, Action.BEGIN_DELETE),
    (FAILED, STOP, ALIVE, {**HERE, **ENDING, **LATE}, Action.STOP_RUN),
    (FAILED, STOP, EXITED, {**HERE, **ENDING, **LATE}, Action.DESTROY_RUN),
    (FAILED, STOP, UNKNOWN, {**ENDING, **LATE}, Action.WAIT),
    # The trash.
    (DELETING, DELETE, ABSENT, {}, Action.MARK_DELETED),
    (DELETING, DELETE, ALIVE, HERE, Action.STOP_RUN),
    (DELETING, DELETE, EXITED, HERE, Action.DESTROY_RUN),
    (DELETING, DELETE, UNKNOWN, {}, Action.WAIT),
    (DELETING, DELETE, UNKNOWN, LATE, Action.FAIL),
    (DELETING, DELETE, ALIVE, LATE, Action.FAIL),
    (DELETING, STOP, ABSENT, {}, Action.MARK_STOPPED),
    (DELETED, DELETE, ABSENT, {"purge_at": NOW + timedelta(days=1)}, Action.REST),
    (DELETED, DELETE, ABSENT, {"purge_at": NOW}, Action.PURGE),
    (DELETED, DELETE, ABSENT, {"purge_at": None}, Action.REST),
    (DELETED, DELETE, ALIVE, {**HERE, "purge_at": LONG_AGO}, Action.STOP_RUN),
    (DELETED, DELETE, UNKNOWN, {"purge_at": LONG_AGO}, Action.WAIT),
    (PURGED, DELETE, ABSENT, {"purge_at": LONG_AGO}, Action.DESTROY_VOLUME),
    (PURGED, DELETE, ABSENT, {"purge_at": None}, Action.REST),
    (PURGED, DELETE, ALIVE, {**HERE, "purge_at": LONG_AGO}, Action.STOP_RUN),
    (PURGED, DELETE, UNKNOWN, {"purge_at": LONG_AGO}, Action.WAIT),
]


def _name(row: Row) -> str:
    state, desired, seen, extra, _ = row
    return f"{state}-{desired}-{seen}-{'-'.join(extra)}"


@pytest.mark.parametrize("row", TABLE, ids=map(_name, TABLE))
def test_the_table(row: Row) -> None:
    state, desired, seen, extra, action = row
    view = View(**{"state": state, "desired": desired, "presence": seen, "progress_at": NOW, **extra})
    assert decide(view, NOW).action is action


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"presence": UNKNOWN, **LATE}, "runtime_silent"),
        ({"presence": ALIVE, **HERE, **LATE}, "start_timeout"),
        ({"presence": ALIVE, **HERE, "content_failed": True}, "content_failed"),
        ({"presence": EXITED, **HERE, **SPENT}, "run_ended"),
        ({"presence": EXITED, **HERE, **SPENT, "exit_reason": "oom_killed"}, "oom_killed"),
        ({"presence": EXITED, **HERE, "exit_reason": "run_refused"}, "run_refused"),
    ],
)
def test_a_failed_start_says_why(extra: dict[str, Any], reason: str) -> None:
    view = View(**{"state": STARTING, "desired": RUN, "progress_at": NOW, **extra})
    assert decide(view, NOW).reason == reason


@pytest.mark.parametrize("state", [STOPPED, FAILED, DELETED, PURGED])
@pytest.mark.parametrize("seen", [ALIVE, UNKNOWN])
def test_what_does_not_end_for_long_is_looked_at_less_often(state: State, seen: Presence) -> None:
    def pause(since: datetime) -> timedelta:
        view = View(state=state, desired=STOP, presence=seen, observed_run=1, run=1, progress_at=since)
        at = decide(view, NOW).look_again_at
        assert at is not None
        return at - NOW

    assert pause(NOW) < pause(LONG_AGO) <= timedelta(seconds=15)


def test_what_waits_for_its_purge_is_looked_at_then() -> None:
    at = NOW + timedelta(days=3)
    assert decide(View(state=DELETED, desired=DELETE, progress_at=NOW, purge_at=at), NOW).look_again_at == at


def test_a_machine_that_is_silent_is_told_as_such() -> None:
    view = View(state=STOPPING, desired=STOP, presence=UNKNOWN, exit_reason="node_lost", progress_at=LONG_AGO)
    assert decide(view, NOW).reason == "node_lost"


@pytest.mark.parametrize(
    ("state", "desired", "extra", "seconds"),
    [
        (RUNNING, RUN, {}, 3600),
        (STARTING, RUN, {}, 10),
        (STARTING, RUN, {"ide_ready": True}, 3600),
        (STARTING, RUN, {"ide_ready": True, "reachable": False}, 1),
        (STOPPING, STOP, {}, 3),
        (RUNNING, RUN, {"presence": UNKNOWN}, 10),
    ],
)
def test_a_runtime_is_asked_as_often_as_it_needs(
    state: State, desired: Desired, extra: dict[str, Any], seconds: float
) -> None:
    pace = Pace(ending=3, starting=10, well=3600)
    view = View(
        **{"state": state, "desired": desired, "presence": ALIVE, "progress_at": NOW, "pace": pace, **HERE, **extra}
    )
    assert decide(view, NOW).look_again_at == NOW + timedelta(seconds=seconds)
