"""Whatever happens around the trash, and whoever dies or comes late: what its owner typed last is what they find."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck
from hypothesis import settings as effort
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from accounts.models import User
from kernel.errors import ClusterFault, Failure
from tests.operator.copystage import Watched, keep_copies
from tests.operator.test_killed import Killed, Killer
from tests.services.stage import Stage
from workspaces.models import Workspace
from workspaces.services import intents
from workspaces.states import State

Factory = Callable[..., Workspace]
AWAY = ClusterFault("registry_away", "The registry does not answer.", "Wait.")
REFUSED = ClusterFault("registry_denied", "The registry says no.", "Ask.", temporary=False)
WISHES: dict[str, Callable[..., Workspace]] = {
    "start": intents.start,
    "stop": intents.stop,
    "delete": intents.delete,
    "restore": intents.restore,
}
# Back from the trash, into it, and in it again.
LIFE = ("restore", "start", "work", "type", "delete", "work")
ACTS = st.sampled_from([*WISHES, "type", "work", "work", "life", "life"])
EFFORT = effort(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
COPYING = ["snapshot", "snapshot", "free_volume", "restore", "forget_snapshot", "call_off_snapshot", "ensure_run"]
HABITS = st.sampled_from(
    [
        {},
        {"copy_after": 3},
        {"copy_after": 30},
        {"copy_fails": AWAY},
        {"fail": {"free_volume": AWAY}},
        {"fail": {"snapshot": REFUSED}},
        {"fail": {"restore": AWAY}},
        {"fail": {"forget_snapshot": AWAY, "call_off_snapshot": AWAY}},
    ]
)


class Trash(RuleBasedStateMachine):
    """One workspace, its owner, and workers."""

    stage: ClassVar[Stage]
    owner: ClassVar[User]
    make: ClassVar[Factory]
    environment: ClassVar[Any]
    lives: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        Trash.lives += 1
        self.stage.runtime = self.runtime = Watched()
        keep_copies(self.environment, 1)
        Workspace.objects.update(look_again_at=None, copy_phase="")
        self.stage.give(Trash.make(self.owner, slug=f"w{Trash.lives}-bcdfg", look_again_at=timezone.now()))
        self.last, self.count = "", 0
        self.work(30)
        self.act("type")

    def act(self, word: str) -> None:
        """Something that happens to the workspace: a wish, what its owner types, or another worker's work."""
        row = self.stage.row()
        if word in WISHES:
            with contextlib.suppress(Failure):
                WISHES[word](row, actor=self.owner, now=timezone.now())
        elif word == "work":
            self.work(20)
        elif word == "life":
            for each in LIFE:
                self.act(each)
        elif row.state == State.RUNNING and self.runs(row):
            self.count += 1
            self.last = f"line {self.count}"
            self.runtime.write(row.slug, self.last)

    def runs(self, row: Workspace) -> bool:
        """Whether the run is there that its owner reaches."""
        return self.runtime.observe(row.slug).run == row.run

    def work(self, seconds: float) -> None:
        """Workers that nobody disturbs."""
        self.stage.work(seconds=seconds)

    @rule(word=ACTS)
    def something_happens(self, word: str) -> None:
        self.act(word)

    @rule(habit=HABITS)
    def the_runtime_changes_its_habits(self, habit: dict[str, Any]) -> None:
        self.stage.behave(**habit)

    @rule(most=st.integers(0, 1))
    def the_setting_is_changed(self, most: int) -> None:
        keep_copies(self.environment, most)

    @rule(minutes=st.sampled_from([1, 6, 60]))
    def time_passes(self, minutes: int) -> None:
        self.stage.later(minutes=minutes)
        self.stage.work(seconds=10)

    @rule(at=st.integers(1, 16))
    def a_worker_is_killed(self, at: int) -> None:
        killer = Killer(at)
        self.runtime.before = self.runtime.after = lambda _: killer.point()
        try:
            with contextlib.suppress(Killed), connection.execute_wrapper(killer.statement):
                self.stage.look()
        finally:
            self.runtime.before = self.runtime.after = lambda _: None

    @rule(
        wish=st.sampled_from(["delete", "delete", "restore", "start"]),
        operation=st.sampled_from(COPYING),
        when=st.sampled_from(["before", "after"]),
        habit=HABITS,
        acts=st.lists(ACTS, min_size=1, max_size=4),
    )
    def a_worker_is_overtaken(
        self, wish: str, operation: str, when: str, habit: dict[str, Any], acts: list[str]
    ) -> None:
        """Between its decision and what it asks of the runtime, or that and its conclusion, all this happens."""

        def overtake(asked: str) -> None:
            if asked == operation:
                setattr(self.runtime, when, lambda _: None)
                self.stage.behave(**habit)
                for word in acts:
                    self.act(word)

        self.act(wish)
        setattr(self.runtime, when, overtake)
        self.work(20)
        setattr(self.runtime, when, lambda _: None)

    @invariant()
    def who_is_let_in_finds_what_was_typed_last(self) -> None:
        row = self.stage.row()
        if row.state == State.RUNNING and self.runs(row):
            assert self.runtime.read(row.slug) == self.last

    def teardown(self) -> None:
        """Whatever happened, its owner gets in, and no copy is left behind that the row does not know."""
        self.stage.behave()
        for _ in range(6):
            self.act("restore")
            self.act("start")
            self.work(60)
        row = self.stage.row()
        assert row.state == State.RUNNING, row.failure
        assert self.runtime.read(row.slug) == self.last
        self.stage.later(minutes=20)
        self.work(60)
        assert self.stage.row().copy_phase == ""


@pytest.mark.django_db
@pytest.mark.timeout(600)
def test_nothing_that_was_typed_is_ever_lost(
    stage: Stage, owner: User, workspace_factory: Factory, settings: Any
) -> None:
    Trash.stage, Trash.owner, Trash.make, Trash.environment = stage, owner, staticmethod(workspace_factory), settings
    settings.ENVIRONMENT = dataclasses.replace(settings.ENVIRONMENT, max_workspaces=1_000_000, trash_days=3_650)
    run_state_machine_as_test(Trash, settings=EFFORT)
