"""Pods of developers on a real node: each namespace of a dev cluster is closed to the others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import images, network
from tests.cluster.node import Node
from tests.devcluster.conftest import DevStage, connected_to, patiently
from tests.support.waiting import eventually

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]

CONNECT = "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2); print('open')"


@pytest.fixture
def place(node: Node, tmp_path: Path) -> Iterator[DevStage]:
    with connected_to(node.control_plane, tmp_path) as stage:
        yield stage


def start(place: DevStage, name: str, pod: str, command: str) -> str:
    """A pod that a developer starts in the workspace's namespace, once it runs; its address."""
    token = patiently(lambda: place.adapter().issue_token(name, 1)).text
    container = {"name": "c", "image": images.WORKSPACE, "command": ["sh", "-c", command]}
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod},
        "spec": {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 1},
    }
    options = ("--namespace", place.namespace(name))
    place.kubectl(token, "create", *options, "--filename", "-", text=json.dumps(manifest))

    def address() -> str:
        found: dict[str, Any] = place.cluster.get("pod", pod, place.namespace(name)).get("status", {})
        return str(found.get("podIP", "")) if found.get("phase") in {"Running", "Succeeded"} else ""

    return eventually(address, timeout=120, every=0.2)


def reaches(place: DevStage, name: str, pod: str, *targets: tuple[str, int]) -> list[bool]:
    """Which of these addresses a pod in the workspace's namespace connects to."""
    tries = "; ".join(f'python3 -c "{CONNECT}" {host} {port} 2>/dev/null || echo closed' for host, port in targets)
    start(place, name, pod, f"{tries}; echo end")
    token = place.adapter().issue_token(name, 1).text
    logs = ("logs", pod, "--namespace", place.namespace(name))
    said = eventually(lambda: text if "end" in (text := place.kubectl(token, *logs)) else "", timeout=60, every=0.2)
    return [line == "open" for line in said.splitlines()[:-1]]


def test_pods_reach_their_own_namespace_and_no_other(place: DevStage) -> None:
    serve = "exec python3 -m http.server 8080"
    first, second = start(place, "one", "web", serve), start(place, "two", "web", serve)
    targets = ((first, 8080), (second, 8080), (network.API_SERVICE, 443), (network.NODE, 10250))
    # Until the server listens, a closed wall and a closed port look the same.
    tries = iter(range(100))
    eventually(lambda: reaches(place, "one", f"try-{next(tries)}", (first, 8080)) == [True], timeout=60)
    assert reaches(place, "one", "spy", *targets) == [True, False, False, False]
    assert reaches(place, "two", "spy", *targets) == [False, True, False, False]
