"""What the copy of a workspace's volume asks for, beside what `decide` says of its run. Pure and total.

The one rule: whoever may have typed last decides. A volume is freed only after a copy that was verified, in the very
stay in the trash in which that copy was asked for; and where the copy is all there is, nothing is launched before there
is a volume made from it.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

from workspaces.operator.decide import Action, Decision, View
from workspaces.states import CopyPhase, State

# How often somebody looks how far a copy is: seldom where nobody waits for it.
AT_REST = timedelta(seconds=5)
AWAITED = timedelta(seconds=2)
_UNDER_WAY = frozenset({CopyPhase.SAVING, CopyPhase.STALLED})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is known of a workspace's copy.

    Attributes:
        generation: the intent under which it was asked for, or the last one was.
        run: the last run that was accepted by then.
        not_before: when what failed may be tried again.
        wanted: the trash shall be kept as copies.
    """

    phase: CopyPhase = CopyPhase.NONE
    generation: int = 0
    run: int = 0
    not_before: datetime | None = None
    wanted: bool = False


def with_copy(decision: Decision, view: View, kept: Kept, now: datetime) -> Decision:
    """The next step, once the copy is thought of. Never raises.

    Args:
        decision: what `decide` says of the same view.
    """
    if decision.action is Action.LAUNCH:
        return _before_launch(decision, view, kept, now)
    if decision.action is Action.DESTROY_VOLUME:
        return decision if kept.phase is CopyPhase.NONE else _forget(Decision(Action.WAIT), kept, now)
    if decision.action is Action.REST and view.state is not State.PURGED:
        return _at_rest(decision, view, kept, now)
    return decision


def _before_launch(decision: Decision, view: View, kept: Kept, now: datetime) -> Decision:
    if kept.phase is CopyPhase.FREEING:
        return Decision(_freeing(view, kept), look_again_at=now + AWAITED)
    if kept.phase is CopyPhase.KEPT:
        return Decision(Action.RESTORE_COPY, look_again_at=now + AWAITED)
    # One that is still being made is called off by the launch itself.
    return decision


def _at_rest(decision: Decision, view: View, kept: Kept, now: datetime) -> Decision:
    if kept.phase is CopyPhase.FREEING and (view.state is not State.RUNNING or view.launched_run > kept.run):
        return _soon(_freeing(view, kept), decision, now)
    if view.state is State.RUNNING:
        over = kept.phase not in {CopyPhase.NONE, CopyPhase.FREEING, CopyPhase.KEPT}
        return _forget(decision, kept, now) if over else decision
    if view.state is State.DELETED and kept.phase is CopyPhase.NONE:
        # A generation has one key, and a key is used once.
        due = kept.wanted and view.launched_run > 0 and kept.generation != view.generation
        return _soon(Action.BEGIN_COPY, decision, now) if due else decision
    if view.state is State.DELETED and kept.phase in _UNDER_WAY and kept.wanted and kept.generation == view.generation:
        return _in_the_trash(decision, kept, now)
    if kept.phase is CopyPhase.SPENT or kept.phase in _UNDER_WAY:
        return _forget(decision, kept, now)
    return decision


def _freeing(view: View, kept: Kept) -> Action:
    # A run that was started since, by a worker that came late or that knows of no copies, may have written.
    return Action.KEEP_VOLUME if view.launched_run > kept.run else Action.FREE_VOLUME


def _in_the_trash(decision: Decision, kept: Kept, now: datetime) -> Decision:
    if kept.phase is CopyPhase.SAVING:
        return _soon(Action.SAVE_COPY, decision, now)
    return _put_off(decision, kept, now) or _soon(Action.BEGIN_COPY, decision, now)


def _forget(decision: Decision, kept: Kept, now: datetime) -> Decision:
    # A copy that was called off while it stalled need not wait for its next attempt.
    waits = kept.phase is CopyPhase.SPENT
    return (_put_off(decision, kept, now) if waits else None) or _soon(Action.FORGET_COPY, decision, now)


def _put_off(decision: Decision, kept: Kept, now: datetime) -> Decision | None:
    if kept.not_before is None or kept.not_before <= now:
        return None
    return dataclasses.replace(decision, look_again_at=_earlier(decision.look_again_at, kept.not_before))


def _soon(action: Action, decision: Decision, now: datetime) -> Decision:
    return Decision(action, look_again_at=_earlier(decision.look_again_at, now + AT_REST))


def _earlier(one: datetime | None, other: datetime) -> datetime:
    return other if one is None else min(one, other)
