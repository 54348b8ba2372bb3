"""A workspace whose trash is kept as copies, in a runtime that counts and whose caller may die or be overtaken."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from workspaces.runtime.fake import FakeRuntime, State

CHANGES = frozenset(
    {
        *("ensure_volume", "ensure_run", "stop", "destroy_run", "destroy_volume"),
        *("snapshot", "restore", "free_volume", "forget_snapshot", "call_off_snapshot"),
    }
)
"""What a runtime is asked to change."""


class Watched(FakeRuntime):
    """Tells before and after each change that it is asked for, and remembers them."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.before: Callable[[str], object] = lambda _: None
        self.after: Callable[[str], object] = lambda _: None

    @contextlib.contextmanager
    def _state(self, operation: str, name: str | None) -> Iterator[State]:
        if operation not in CHANGES:
            with super()._state(operation, name) as state:
                yield state
            return
        self.asked.append(operation)
        self.before(operation)
        with super()._state(operation, name) as state:
            yield state
        self.after(operation)

    @property
    def copies(self) -> list[str]:
        """The references of all that it keeps."""
        return sorted(self._memory.get("/snapshots", {}))


def keep_copies(settings: Any, most: int) -> None:
    """From now on, so many workspaces in the trash may be copied at once."""
    settings.ENVIRONMENT = dataclasses.replace(settings.ENVIRONMENT, trash_copies=most)
