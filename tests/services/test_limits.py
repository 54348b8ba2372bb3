"""What code in a workspace cannot make the platform do, and what a slow worker cannot undo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.utils import timezone

from accounts.models import User
from workspaces.models import Condition, Event, Workspace
from workspaces.services import report
from workspaces.services.transition import transition
from workspaces.states import Reason, State

Factory = Callable[..., Workspace]


def _report(status: str, notice: str) -> dict[str, Any]:
    words = {"code": "", "message": "", "next_step": "", "progress": None, "started_ago": None, "finished_ago": None}
    return {
        "conditions": [{"type": "commands", "status": status, **words}],
        "git": None,
        "ports": [],
        "activity": {},
        "notices": [{"id": notice, "code": "x", "message": "x"}],
    }


def test_a_run_cannot_fill_the_history(owner: User, workspace_factory: Factory) -> None:
    workspace = workspace_factory(owner, state="running", run=1)
    for number in range(report.MOST_ENTRIES):
        report.apply(workspace, _report("failed" if number % 2 else "done", f"n{number}"), now=timezone.now())
    assert Event.objects.count() <= report.MOST_ENTRIES + 1
    assert Condition.objects.get().status == "failed"


def test_a_worker_that_read_an_older_run_changes_nothing(owner: User, workspace_factory: Factory) -> None:
    slow = workspace_factory(owner, state="starting", run=5)
    fast = Workspace.objects.get()
    assert transition(fast, State.STARTING, now=timezone.now(), reason=Reason.INTERRUPTED, run=6)
    assert not transition(slow, State.RUNNING, now=timezone.now(), reason=Reason.USER)
    assert (Workspace.objects.get().state, Workspace.objects.get().run) == ("starting", 6)
