"""The operator's decision for every view there can be, and a small world in which it must come to rest."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from workspaces.operator.decide import MOST_INTERRUPTIONS, Action, Decision, View, decide
from workspaces.runtime.port import Presence
from workspaces.states import GONE, TRANSITIONS, Desired, State

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
TIMES = st.integers(-20 * 24, 20 * 24).map(lambda hours: NOW + timedelta(hours=hours))
NUMBERS = st.integers(0, 4)
VIEWS = st.builds(
    View,
    state=st.sampled_from(State),
    desired=st.sampled_from(Desired),
    generation=NUMBERS,
    failed_generation=NUMBERS,
    failed_ending=st.booleans(),
    restart_pending=st.booleans(),
    run=NUMBERS,
    launched_run=NUMBERS,
    interruptions=NUMBERS,
    progress_at=TIMES,
    running_since=st.none() | TIMES,
    purge_at=st.none() | TIMES,
    presence=st.sampled_from(Presence),
    observed_run=st.none() | NUMBERS,
    exit_reason=st.sampled_from(["", "oom_killed", "what nobody foresaw"]),
    ide_ready=st.booleans(),
    content_failed=st.booleans(),
)
# What may follow only from knowing whether a run is there.
NEEDS_SIGHT = {
    Action.LAUNCH,
    Action.RETRY,
    Action.STOP_RUN,
    Action.DESTROY_RUN,
    Action.MARK_RUNNING,
    Action.MARK_DELETED,
    Action.PURGE,
    Action.DESTROY_VOLUME,
}
TARGETS = {
    Action.START: State.STARTING,
    Action.RETRY: State.STARTING,
    Action.MARK_RUNNING: State.RUNNING,
    Action.BEGIN_STOP: State.STOPPING,
    Action.MARK_STOPPED: State.STOPPED,
    Action.FAIL: State.FAILED,
    Action.BEGIN_DELETE: State.DELETING,
    Action.MARK_DELETED: State.DELETED,
    Action.PURGE: State.PURGED,
}


@given(VIEWS)
@settings(max_examples=600)
def test_every_view_has_an_answer_that_keeps_the_rules(view: View) -> None:
    decision = decide(view, NOW)
    action = decision.action
    if view.presence is Presence.UNKNOWN:
        assert action not in NEEDS_SIGHT
        # A workspace that is still pending was never given to a runtime.
        assert action is not Action.MARK_STOPPED or view.state is State.PENDING
        # Telling it once is enough.
        told = view.state is State.FAILED and view.failed_generation >= view.generation
        assert action is not Action.FAIL or not told
    if action is Action.PURGE:
        assert view.state is State.DELETED
        assert view.purge_at is not None
        assert view.purge_at <= NOW
    if action is Action.DESTROY_VOLUME:
        assert view.state is State.PURGED
        assert view.presence is Presence.ABSENT
    if action is Action.WAIT:
        assert decision.look_again_at is not None
        assert decision.look_again_at > NOW
    if action in TARGETS:
        assert TARGETS[action] in TRANSITIONS[view.state]


@dataclasses.dataclass
class World:
    """A workspace's row and its run, without a database or a process."""

    state: State
    desired: Desired
    run: int
    launched_run: int
    interruptions: int
    generation: int
    failed_generation: int
    failed_ending: bool
    restart_pending: bool
    purge_at: datetime | None
    seen: Presence
    observed_run: int | None
    blind: int
    stops_needed: int
    stop_timeout: timedelta
    now: datetime = NOW
    progress_at: datetime = NOW
    volume: bool = True

    def view(self) -> View:
        blind = self.blind > 0
        return View(
            state=self.state,
            desired=self.desired,
            generation=self.generation,
            failed_generation=self.failed_generation,
            failed_ending=self.failed_ending,
            restart_pending=self.restart_pending,
            run=self.run,
            launched_run=self.launched_run,
            interruptions=self.interruptions,
            progress_at=self.progress_at,
            purge_at=self.purge_at,
            presence=Presence.UNKNOWN if blind else self.seen,
            observed_run=None if blind else self.observed_run,
            ide_ready=self.seen is Presence.RUNNING and self.observed_run == self.run,
            stop_timeout=self.stop_timeout,
        )

    def step(self) -> Decision:
        decision = decide(self.view(), self.now)
        self.blind -= 1
        if decision.action in TARGETS:
            self._row(decision.action)
            self.state, self.progress_at = TARGETS[decision.action], self.now
        else:
            self._runtime(decision.action)
        if decision.look_again_at is not None and decision.action is not Action.REST:
            self.now = max(self.now, decision.look_again_at)
        return decision

    def _row(self, action: Action) -> None:
        if action in {Action.START, Action.RETRY}:
            self.run, self.restart_pending = self.run + 1, False
            self.interruptions += action is Action.RETRY
        elif action is Action.FAIL:
            self.failed_generation = self.generation
            self.failed_ending = self.state in {State.STOPPING, State.DELETING}
        elif action is Action.MARK_DELETED:
            self.purge_at = self.now + timedelta(days=14)

    def _runtime(self, action: Action) -> None:
        if action is Action.LAUNCH:
            assert self.seen is Presence.ABSENT, "two runs at once"
            self.seen, self.observed_run, self.launched_run = Presence.RUNNING, self.run, self.run
        elif action is Action.STOP_RUN:
            self.stops_needed -= 1
            self.seen = Presence.EXITED if self.stops_needed < 1 else self.seen
        elif action is Action.DESTROY_RUN:
            self.seen, self.observed_run = Presence.ABSENT, None
        elif action is Action.DESTROY_VOLUME:
            assert self.seen is Presence.ABSENT, "a volume under a living run"
            self.volume, self.purge_at = False, None


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Any row that the services can write, with any run that may be left over from before."""
    state, run = draw(st.sampled_from(State)), draw(st.integers(1, 4))
    desired = Desired.DELETED if state in {*GONE, State.DELETING} else draw(st.sampled_from(Desired))
    seen = draw(st.sampled_from([Presence.ABSENT, Presence.RUNNING, Presence.EXITED]))
    if state is State.PENDING:
        run, seen = 0, Presence.ABSENT
    generation = draw(st.integers(1, 3))
    return World(
        state=state,
        desired=desired,
        run=run,
        launched_run=draw(st.integers(0, run)),
        interruptions=draw(st.integers(0, MOST_INTERRUPTIONS)),
        generation=generation,
        failed_generation=draw(st.integers(0, generation)),
        failed_ending=state is State.FAILED and draw(st.booleans()),
        restart_pending=state is State.RUNNING and draw(st.booleans()),
        purge_at=NOW + timedelta(days=draw(st.integers(-1, 1))) if state in GONE else None,
        seen=seen,
        observed_run=None if seen is Presence.ABSENT else draw(st.integers(max(1, run - 1), max(1, run))),
        blind=draw(st.integers(0, 3)),
        stops_needed=draw(st.integers(1, 4)),
        stop_timeout=draw(st.sampled_from([timedelta(seconds=0.4), timedelta(minutes=2)])),
    )


@given(worlds())
@settings(max_examples=600)
def test_a_small_world_comes_to_rest_where_it_is_wanted(world: World) -> None:
    spent = world.interruptions >= MOST_INTERRUPTIONS - 1
    failed = world.state is State.FAILED and not world.failed_ending
    for _ in range(40):
        if world.step().action is Action.REST:
            break
    else:
        raise AssertionError(f"still busy: {world}")
    if world.desired is Desired.DELETED:
        assert world.state in GONE
    elif world.desired is Desired.STOPPED:
        assert world.state is (State.FAILED if failed else State.STOPPED)
    elif world.state is not State.RUNNING:
        assert world.state is State.FAILED
        assert spent or failed
    assert (world.seen is Presence.RUNNING) == (world.state is State.RUNNING)
    if world.state is State.RUNNING:
        assert world.observed_run == world.run
    assert world.volume or world.state is State.PURGED
