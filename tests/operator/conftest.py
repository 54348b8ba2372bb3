"""The operator's stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
import time_machine
from django.utils import timezone

from accounts.models import User
from tests.services.stage import Stage
from workspaces.models import Workspace
from workspaces.states import State

Factory = Callable[..., Workspace]


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A runtime without processes under a clock that stands still until told."""
    with time_machine.travel(datetime(2026, 11, 23, 12, tzinfo=UTC), tick=False) as traveller:
        yield Stage(traveller)


@pytest.fixture
def pending(stage: Stage, owner: User, workspace_factory: Factory) -> Workspace:
    """New, and nobody has looked at it yet."""
    return stage.give(workspace_factory(owner, look_again_at=timezone.now()))


@pytest.fixture
def running(stage: Stage, pending: Workspace) -> Workspace:
    """After its first start."""
    row = stage.work(seconds=10)
    assert row.state == State.RUNNING
    return row
