"""Helm for this folder's tests."""

from __future__ import annotations

import pytest

from tests.cluster import programs
from tests.deploy.helm import Helm
from tests.deploy.installed import installed, snapshots

__all__ = ["installed", "snapshots"]  # Fixtures.


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    programs.ensure("chart")
    return Helm(tmp_path_factory.mktemp("helm"))
