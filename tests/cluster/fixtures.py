"""Fixtures for tests with the marks `cluster` (a control plane, no node) and `node` (a real node, as root).

Each process of a test run starts them once, on first use; tests/conftest.py imports them, and nobody else does: each
import would start its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import images, programs
from tests.cluster.access import Cluster
from tests.cluster.control_plane import ControlPlane
from tests.cluster.node import Node


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster without nodes; or that of `SLIPWAY_TEST_KUBECONFIG`, which is not empty, and not ours to stop."""
    if existing := os.environ.get("SLIPWAY_TEST_KUBECONFIG"):
        yield Cluster(Path(existing).resolve(), tmp_path_factory.mktemp("cluster"))
        return
    programs.ensure("control-plane")
    with ControlPlane.run() as started:
        yield started
        started.check()


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """A real node with the images `pause` and `workspace`, in a cluster of its own: `node.control_plane`."""
    programs.ensure("node")
    with ControlPlane.run() as cluster, Node.run(cluster) as started:
        started.load_image(images.workspace_archive(programs.cache_folder()))
        yield started
        started.check()
