"""The trash as copies, from the intent to the claim, against a real API server; the test plays storage and agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from tests.operator.copystage import keep_copies
from tests.runtime.k8s.test_snapshots import NAME, Storage, storage
from tests.services.stage import READY
from tests.support.waiting import eventually
from workspaces.models import Workspace
from workspaces.operator.reconcile import reconcile
from workspaces.services import intents, report
from workspaces.states import CopyPhase, State

__all__ = ["storage"]
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180), pytest.mark.django_db(transaction=True)]
Factory = Callable[..., Workspace]


def test_a_workspace_in_the_trash_is_a_snapshot_and_comes_back_from_it(
    storage: Storage, owner: User, workspace_factory: Factory, settings: Any
) -> None:
    keep_copies(settings, 1)
    runtime = storage.runtime()
    workspace = workspace_factory(owner, slug="demo", look_again_at=timezone.now())

    def look() -> Workspace:
        reconcile(workspace.pk, runtime)
        workspace.refresh_from_db()
        return workspace

    def until(state: State, phase: CopyPhase) -> None:
        eventually(
            lambda: (look().state, workspace.copy_phase) == (state, phase),
            timeout=60,
            every=0.2,
            what=f"{state} {phase}",
        )

    def runs(phase: CopyPhase) -> None:
        until(State.STARTING, phase)
        eventually(lambda: look().run and storage.get("pod"), timeout=60)
        storage.say(phase="Running", podIP="10.1.1.1", podIPs=[{"ip": "10.1.1.1"}])
        report.apply(workspace, READY, now=timezone.now())

    runs(CopyPhase.NONE)
    until(State.RUNNING, CopyPhase.NONE)
    claim = storage.get("persistentvolumeclaim")["metadata"]["uid"]

    intents.delete(workspace, actor=owner, now=timezone.now())
    until(State.DELETED, CopyPhase.SAVING)
    key = f"trash{workspace.generation}"
    eventually(lambda: look().run and storage.get(NAME, f"-{key}"))
    assert storage.get("persistentvolumeclaim")["metadata"]["uid"] == claim, "a copy that is not ready frees nothing"
    storage.tell(key, readyToUse=True, restoreSize="10Gi")
    until(State.DELETED, CopyPhase.KEPT)
    assert (workspace.copy["volume"], storage.get("persistentvolumeclaim")) == (claim, {})
    assert runtime.list() == []

    intents.restore(workspace, actor=owner, now=timezone.now())
    intents.start(workspace, actor=owner, now=timezone.now())
    runs(CopyPhase.RESTORED)
    made = storage.get("persistentvolumeclaim")
    assert made["spec"]["dataSource"]["name"] == f"{storage.prefix}demo-{key}"
    assert storage.get(NAME, f"-{key}"), "the storage may still fill the claim from it"
    until(State.RUNNING, CopyPhase.NONE)
    assert not storage.get(NAME, f"-{key}")
    assert storage.get("persistentvolumeclaim")["metadata"]["uid"] == made["metadata"]["uid"]
