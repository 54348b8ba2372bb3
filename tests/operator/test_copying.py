"""What a copy asks for, as a table, and the rules that hold for every view."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.operator.test_decide_properties import VIEWS
from workspaces.operator.copying import Kept, with_copy
from workspaces.operator.decide import Action, Decision, View, decide
from workspaces.runtime.port import Presence
from workspaces.states import CopyPhase, Desired, State

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PURGE_AT = NOW + timedelta(days=14)
LATER = {"not_before": NOW + timedelta(minutes=5)}
OVER = {"not_before": NOW - timedelta(minutes=5)}
OLDER = {"generation": 2}

NONE, SAVING, STALLED, FREEING, KEPT, RESTORED, SPENT = CopyPhase
DELETED, STOPPED, FAILED, STARTING, RUNNING, PURGED = (
    State.DELETED,
    State.STOPPED,
    State.FAILED,
    State.STARTING,
    State.RUNNING,
    State.PURGED,
)
RAN_SINCE = {"run": 0}
OFF = {"wanted": False}

TABLE: list[tuple[State, CopyPhase, dict[str, Any], Action]] = [
    # In the trash.
    (DELETED, NONE, OLDER, Action.BEGIN_COPY),
    (DELETED, NONE, {**OLDER, **OFF}, Action.REST),
    (DELETED, NONE, {}, Action.REST),  # Its key is used.
    (DELETED, SAVING, {}, Action.SAVE_COPY),
    (DELETED, SAVING, OLDER, Action.FORGET_COPY),
    (DELETED, SAVING, OFF, Action.FORGET_COPY),
    (DELETED, STALLED, LATER, Action.REST),
    (DELETED, STALLED, OVER, Action.BEGIN_COPY),
    (DELETED, STALLED, {**OVER, **OFF}, Action.FORGET_COPY),
    (DELETED, STALLED, {**OLDER, **LATER}, Action.FORGET_COPY),
    (DELETED, FREEING, OFF, Action.FREE_VOLUME),
    (DELETED, FREEING, RAN_SINCE, Action.KEEP_VOLUME),
    (DELETED, KEPT, OLDER, Action.REST),
    (DELETED, RESTORED, OLDER, Action.REST),
    (DELETED, SPENT, OLDER, Action.FORGET_COPY),
    (DELETED, SPENT, {**OLDER, **LATER}, Action.REST),
    # Back from it, and not started.
    *[
        (state, phase, {**OLDER, **OFF}, action)
        for state in (STOPPED, FAILED)
        for phase, action in (
            (NONE, Action.REST),
            (SAVING, Action.FORGET_COPY),
            (STALLED, Action.FORGET_COPY),
            (FREEING, Action.FREE_VOLUME),
            (KEPT, Action.REST),
            (RESTORED, Action.REST),
            (SPENT, Action.FORGET_COPY),
        )
    ],
    # Started.
    (STARTING, NONE, OLDER, Action.LAUNCH),
    (STARTING, SAVING, OLDER, Action.LAUNCH),
    (STARTING, STALLED, OLDER, Action.LAUNCH),
    (STARTING, FREEING, OLDER, Action.FREE_VOLUME),
    (STARTING, FREEING, RAN_SINCE, Action.KEEP_VOLUME),
    (STARTING, KEPT, OLDER, Action.RESTORE_COPY),
    (STARTING, RESTORED, OLDER, Action.LAUNCH),
    (STARTING, SPENT, OLDER, Action.LAUNCH),
    # Up.
    (RUNNING, NONE, OLDER, Action.REST),
    (RUNNING, SAVING, OLDER, Action.FORGET_COPY),
    (RUNNING, STALLED, OLDER, Action.FORGET_COPY),
    (RUNNING, FREEING, {"run": 2}, Action.REST),
    (RUNNING, FREEING, OLDER, Action.KEEP_VOLUME),
    (RUNNING, KEPT, OLDER, Action.REST),
    (RUNNING, RESTORED, OLDER, Action.FORGET_COPY),
    (RUNNING, SPENT, OLDER, Action.FORGET_COPY),
    (RUNNING, SPENT, {**OLDER, **LATER}, Action.REST),
    # Its time is up: the copy goes before the volume.
    (PURGED, NONE, {}, Action.DESTROY_VOLUME),
    *[(PURGED, phase, {}, Action.FORGET_COPY) for phase in CopyPhase if phase is not NONE],
    (PURGED, SPENT, LATER, Action.WAIT),
]


def _seen(state: State) -> View:
    running = state is RUNNING
    return View(
        state=state,
        desired={RUNNING: Desired.RUNNING, STARTING: Desired.RUNNING, DELETED: Desired.DELETED}.get(
            state, Desired.STOPPED
        ),
        generation=3,
        failed_generation=3,
        run=2,
        launched_run=2 if running else 1,
        progress_at=NOW,
        purge_at=PURGE_AT if state in {DELETED, PURGED} else None,
        presence=Presence.RUNNING if running else Presence.ABSENT,
        observed_run=2 if running else None,
    )


@pytest.mark.parametrize(("state", "phase", "more", "action"), TABLE)
def test_what_a_copy_asks_for(state: State, phase: CopyPhase, more: dict[str, Any], action: Action) -> None:
    view = _seen(state)
    kept = Kept(**{"phase": phase, "generation": 3, "run": 1, "wanted": True, **more})
    decision = with_copy(decide(view, NOW), view, kept, NOW)
    assert decision.action is action
    if more.get("not_before") == LATER["not_before"] and action in {Action.REST, Action.WAIT}:
        assert decision.look_again_at is not None
        assert decision.look_again_at <= LATER["not_before"]


KEPTS = st.builds(
    Kept,
    phase=st.sampled_from(CopyPhase),
    generation=st.integers(0, 4),
    run=st.integers(0, 4),
    not_before=st.none() | st.integers(-5, 5).map(lambda hours: NOW + timedelta(hours=hours)),
    wanted=st.booleans(),
)
COPYING = {
    *(Action.BEGIN_COPY, Action.SAVE_COPY, Action.FREE_VOLUME),
    *(Action.KEEP_VOLUME, Action.RESTORE_COPY, Action.FORGET_COPY),
}


@given(VIEWS, KEPTS)
@settings(max_examples=1000)
def test_every_view_has_an_answer_that_keeps_the_rules(view: View, kept: Kept) -> None:
    plain = decide(view, NOW)
    decision = with_copy(plain, view, kept, NOW)
    action = decision.action
    if action not in COPYING:
        assert action is plain.action or (plain.action, action) == (Action.DESTROY_VOLUME, Action.WAIT)
    else:
        harmless = action in {Action.KEEP_VOLUME, Action.FORGET_COPY}
        assert view.presence is Presence.ABSENT or (view.state is RUNNING and harmless)
        assert decision.look_again_at is not None
    if action in {Action.BEGIN_COPY, Action.SAVE_COPY}:
        assert view.state is DELETED
        assert kept.wanted
    if action is Action.SAVE_COPY:
        assert kept.generation == view.generation
    if action is Action.FREE_VOLUME:
        assert kept.phase is FREEING
        assert view.launched_run <= kept.run
    if action is Action.LAUNCH:
        assert kept.phase not in {FREEING, KEPT}
    if action is Action.FORGET_COPY and view.state is not PURGED:
        assert kept.phase not in {FREEING, KEPT}
        assert kept.phase is not RESTORED or view.state is RUNNING


def test_a_purge_comes_before_all_copying() -> None:
    view = _seen(DELETED)
    for phase in CopyPhase:
        assert with_copy(Decision(Action.PURGE), view, Kept(phase=phase, wanted=True), NOW).action is Action.PURGE
