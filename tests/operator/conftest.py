"""The operator's stage."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import time_machine

from tests.services.stage import Stage


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A runtime without processes under a clock that stands still until told."""
    with time_machine.travel(datetime(2026, 11, 23, 12, tzinfo=UTC), tick=False) as traveller:
        yield Stage(traveller)
