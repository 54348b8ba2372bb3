"""What tests of the server share: a database that threads can share, and a small stage for one workspace."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, TypeVar

import time_machine
from django.db import connection
from django.utils import timezone

from workspaces.models import Workspace
from workspaces.operator.reconcile import reconcile
from workspaces.runtime.fake import FakeOptions, FakeRuntime
from workspaces.runtime.port import Presence, Runtime
from workspaces.selectors import due
from workspaces.services import report

T = TypeVar("T")


def together(works: Iterable[Callable[[], T]]) -> list[T | BaseException]:
    """Run all at once, each in a thread with its own database connection; what each returned or raised, in order."""
    listed = list(works)
    results: list[T | BaseException] = [AssertionError("did not run")] * len(listed)
    gate = threading.Barrier(len(listed))

    def run(number: int, work: Callable[[], T]) -> None:
        try:
            gate.wait(10)
            results[number] = work()
        except BaseException as error:  # noqa: BLE001 - Handed to the test, which judges it.
            results[number] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number, work)) for number, work in enumerate(listed)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return results


def said(*steps: dict[str, Any], **extra: Any) -> dict[str, Any]:
    """A report of an agent, as the internal API hands it on."""
    blank = {
        "code": "",
        "message": "",
        "next_step": "",
        "progress": None,
        "started_ago": None,
        "finished_ago": None,
    }
    conditions = [{**blank, **step} for step in steps]
    return {"conditions": conditions, "git": None, "activity": {}, "ports": [], "notices": [], **extra}


READY = said({"type": "content", "status": "done"}, {"type": "ide", "status": "done"})


class Stage:
    """One workspace, a fake runtime, a clock that only moves when told, and a worker that comes when the sweep asks."""

    def __init__(self, traveller: time_machine.Traveller) -> None:
        self.clock = traveller
        self.runtime = FakeRuntime()
        self.workspace = Workspace()

    def behave(self, **options: Any) -> None:
        """From now on, the runtime has these of `FakeOptions`; none is a good one."""
        self.runtime.options = FakeOptions(**options)

    def give(self, workspace: Workspace) -> Workspace:
        """Put a workspace on the stage."""
        self.workspace = workspace
        return workspace

    def row(self) -> Workspace:
        """As the database has it."""
        return Workspace.objects.select_related("repository", "owner").get(pk=self.workspace.pk)

    def presence(self) -> Presence:
        """What the runtime has of it."""
        return self.runtime.observe(self.workspace.slug).presence

    def look(self, runtime: Runtime | None = None) -> Workspace:
        """One look of the operator."""
        reconcile(self.workspace.pk, runtime or self.runtime)
        return self.row()

    def report(self, document: dict[str, Any] = READY) -> None:
        """The agent of the run that is there says something."""
        row, seen = self.row(), self.runtime.observe(self.workspace.slug)
        if seen.presence is Presence.RUNNING and seen.run == row.run:
            report.apply(row, document, now=timezone.now())

    def work(self, *, seconds: float = 60, ready: bool = True) -> Workspace:
        """Let time pass: whenever the sweep would ask for a look there is one, and the agent reports after it."""
        end = timezone.now() + timedelta(seconds=seconds)
        while timezone.now() < end:
            if due(now=timezone.now()):
                self.look()
            if ready:
                self.report()
            asked = self.row().look_again_at
            earliest = timezone.now() + timedelta(seconds=0.5)
            self.clock.move_to(min(end, max(asked or end, earliest)))
        return self.row()

    def later(self, **span: float) -> None:
        """Move the clock."""
        self.clock.shift(timedelta(**span))
