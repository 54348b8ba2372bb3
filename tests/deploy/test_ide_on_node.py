"""The IDE's image on a real node: in pods of another image, the agent comes up and the editor's page answers."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import images, network, programs
from tests.cluster.node import Node
from tests.runtime.k8s.conftest import patiently
from tests.support.git_http import GitServer
from tests.support.git_repos import Repository
from tests.support.waiting import eventually
from workspaces.runtime.k8s import K8sConfig, K8sRuntime, Peer
from workspaces.runtime.port import Limits, Presence, RunSpec

pytestmark = [pytest.mark.node, pytest.mark.timeout(900), pytest.mark.allow_hosts(["127.0.0.1", network.PODS])]

KEY = "sld_" + secrets.token_hex(32)
LIMITS = Limits(cpu=2, memory=2**30)


@pytest.fixture(scope="module")
def loaded(node: Node) -> Node:
    node.load_image(images.ide_archive(programs.cache_folder().parent, programs.path("kubectl")))
    return node


@pytest.fixture
def repository(loaded: Node, tmp_path: Path) -> Iterator[Repository]:
    with GitServer(tmp_path / "git", network.MACHINE) as server:
        yield server.create_repository("team/app", {"README.md": "hello"})


@pytest.fixture
def values(loaded: Node) -> Iterator[dict[str, Any]]:
    """Settings of an adapter whose workspaces get the IDE from its image."""
    tag = f"t{secrets.token_hex(4)}"
    yield {
        "kubeconfig": Path(loaded.control_plane.kubeconfig),
        "image": images.WORKSPACE,
        "ide_image": images.IDE,
        "prefix": f"{tag}-",
        "instance": tag,
        "gateway": Peer(networks=(f"{network.MACHINE}/32",)),
        "allowed": (f"{network.MACHINE}/32",),
        "volume_bytes": 2**30,
        "stop_grace": 5,
    }
    loaded.control_plane.kubectl("delete", "namespace", "--selector", f"slipway.dev/instance={tag}", "--wait=false")


def start(runtime: K8sRuntime, repository: Repository) -> None:
    """Create a workspace of this repository."""
    agent = {
        "workspace": {"id": "6f1f7f0e-3a0c-4c8e-9a54-0f3f2f1d9b11", "slug": "demo"},
        "run": 1,
        "repository": {
            "clone_url": repository.url,
            "full_name": "team/app",
            "ref": "refs/heads/main",
            "branch": "main",
        },
        "identity": {"name": "Olga", "email": "olga@example.com"},
        "urls": {"workspace": "http://demo.example.com", "port": "http://{{port}}-demo.example.com"},
    }
    patiently(lambda: runtime.ensure_volume("demo"))
    patiently(lambda: runtime.ensure_run(RunSpec("demo", 1, agent, {"door_key": KEY}, LIMITS)))


def events(runtime: K8sRuntime) -> list[dict[str, Any]]:
    """What the agent has logged."""
    lines = runtime.logs("demo").splitlines()
    return [json.loads(line) for line in lines if line.startswith(b"{")]


def await_editor(runtime: K8sRuntime) -> None:
    """Wait until the agent says that the editor is open; fails with what the cluster says once that cannot be."""

    def look() -> bool:
        seen = runtime.observe("demo")
        assert seen.presence is not Presence.EXITED, seen
        return "ide_ready" in {event.get("event") for event in events(runtime)}

    eventually(look, timeout=120, every=0.1, what="the editor answers")


def page(runtime: K8sRuntime) -> bytes:
    """The editor's page through the agent's door, as the gateway gets it."""
    host, _, port = runtime.observe("demo").upstream["ide"].removeprefix("tcp://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"SLIPWAY/1 {KEY} ide\n".encode())
        assert connection.recv(3) == b"OK\n"
        connection.sendall(b"GET /?folder=/home/dev/app HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    ("changes", "mounted"),
    [({}, True), ({"delivery": "init"}, False), ({"host_users": False}, False)],
    ids=["found out", "copied", "copied, with users of its own"],
)
def test_the_editor_answers(
    values: dict[str, Any], repository: Repository, loaded: Node, changes: dict[str, Any], mounted: bool
) -> None:
    runtime = K8sRuntime(K8sConfig(**values, **changes))
    start(runtime, repository)
    await_editor(runtime)
    answer = page(runtime)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"vscode" in answer
    name = f"{values['prefix']}demo"
    pod = loaded.control_plane.get("pod", name, name)
    assert any("image" in volume for volume in pod["spec"]["volumes"]) is mounted
