"""Where nobody can tell whether a workspace runs, an administrator can end what is left of its run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts.models import User
from tests.runtime.rigs import Rig, local_rig
from workspaces.models import Event, Workspace
from workspaces.operator.reconcile import reconcile
from workspaces.runtime.port import Presence
from workspaces.services import intents
from workspaces.services.runtimes import runtime
from workspaces.states import State

Factory = Callable[..., Workspace]
pytestmark = pytest.mark.django_db


@pytest.fixture
def rig(settings: Any) -> Iterator[Rig]:
    """A runtime on this machine, which the settings name as well."""
    with local_rig("none") as found:
        options = {"home": str(found.root / "var"), "run_dir": str(found.root / "r"), "sandbox": "none"}
        settings.RUNTIME = {"factory": "workspaces.runtime.local.build", "options": options}
        runtime.cache_clear()
        yield found
        runtime.cache_clear()


def test_damaged_notes_are_told_and_can_be_cleared(rig: Rig, owner: User, workspace_factory: Factory) -> None:
    workspace = workspace_factory(owner, slug="demo", look_again_at=timezone.now())

    def look() -> Workspace:
        reconcile(workspace.pk, rig.runtime)
        workspace.refresh_from_db()
        return workspace

    look()
    home = rig.root / "var" / "workspaces" / "demo"
    (home / "home" / "work.txt").write_text("mine")
    (home / "run" / "intent.json").write_text("not json")
    intents.stop(workspace, actor=owner, now=timezone.now())
    assert look().state == State.STOPPING
    Workspace.objects.update(progress_at=timezone.now() - timedelta(hours=1))
    assert look().state == State.FAILED
    assert "clear_run" in workspace.failure["next_step"]
    call_command("clear_run", "demo")
    assert rig.runtime.observe("demo").presence is Presence.ABSENT
    assert _processes_in(rig.root) == []
    assert (look().state, workspace.failure) == (State.STOPPED, {})
    assert (home / "home" / "work.txt").read_text() == "mine"
    assert "administrator" in Event.objects.get(kind="change").text


def _processes_in(folder: Path) -> list[str]:
    mark = str(folder / "var").encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if mark in command:
                found.append(command.decode())
    return found


def test_a_name_that_nobody_has(db: None) -> None:
    with pytest.raises(CommandError, match="no such workspace"):
        call_command("clear_run", "nobodys")
