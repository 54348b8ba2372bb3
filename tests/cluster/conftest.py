"""Order of this folder's tests."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A machine has one node at a time: what makes its own comes before everything that shares one."""
    items.sort(key=lambda item: item.path.name != "test_traces.py")
