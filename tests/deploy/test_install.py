"""The chart on a real node with the platform's own image: installed, used, and upgraded under load."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from deploy.images import build
from tests.cluster import images, network, programs
from tests.cluster.control_plane import free_ports
from tests.cluster.node import Node
from tests.deploy.helm import Helm
from tests.deploy.installation import DOMAIN, Installation
from tests.deploy.load import Load, Page, under
from tests.support.git_http import GitServer
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually
from tests.with_postgres import postgres

pytestmark = [
    pytest.mark.node,
    pytest.mark.postgres,
    pytest.mark.timeout(900),
    pytest.mark.allow_hosts(["127.0.0.1", network.MACHINE, network.SERVICES]),
]
PORT = 3000
SOCKETS = 20
UPGRADES = 1
# A program of the user's in the workspace: pages, and sockets that send back what comes. The editor brings the library.
ECHO = """
const {WebSocketServer} = require("/opt/slipway/ide/node_modules/ws");
const server = require("http").createServer((request, answer) => answer.end("here"));
new WebSocketServer({server}).on("connection", socket => socket.on("message", text => socket.send(String(text))));
server.listen(%d, "127.0.0.1");
"""


@pytest.fixture(scope="module")
def installation(
    node: Node, helm: Helm, tmp_path_factory: pytest.TempPathFactory, git: GitServer
) -> Iterator[Installation]:
    """Slipway, installed; PostgreSQL and Redis are outside of the cluster."""
    cache = programs.cache_folder().parent
    node.load_image(images.ide_archive(cache, programs.path("kubectl")))
    node.load_image(build.ensure("platform", build.Options(base="debootstrap", cache=cache / "images")))
    database, redis = free_ports(2)
    ports = {"git": int(git.netloc.rpartition(":")[2]), "database": database, "redis": redis}
    with (
        postgres(network.MACHINE, database, clients=network.PODS) as url,
        ValkeyServer(tmp_path_factory.mktemp("redis"), network.MACHINE, redis),
    ):
        address = f"redis://{network.MACHINE}:{redis}/0"
        installed = Installation(node, helm, database=url, redis=address, ports=ports)
        try:
            installed.install()
            yield installed
        finally:
            installed.uninstall()


@pytest.fixture(scope="module")
def git(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    """A git server that pods and the platform reach."""
    with GitServer(tmp_path_factory.mktemp("git"), network.MACHINE) as server:
        server.create_repository("acme/rocket", {"app.py": "print('lift-off')\n"})
        yield server


def test_nobody_is_dropped_by_an_upgrade(installation: Installation, git: GitServer) -> None:
    installation.test()
    workspace = installation.create(f"{git.url}/acme/rocket.git")
    slug = workspace["slug"]
    ide, port = f"{slug}.{DOMAIN}", f"{PORT}-{slug}.{DOMAIN}"
    start = "cat > ~/echo.js && (setsid /opt/slipway/bin/node ~/echo.js > /dev/null 2>&1 &)"
    installation.feed(slug, start, ECHO % PORT)
    load = _load(installation, ide, port)
    before = _uids(installation)
    [pod] = installation.workspace_pods()
    with under(load, lambda steady: eventually(steady, timeout=60, what=f"the load is steady: {load.count}")) as count:
        for number in range(UPGRADES):
            installation.install(podAnnotations={"example.com/upgrade": str(number)})
            sys.stdout.write(f"upgraded: {count}\n")
            eventually(lambda: _settled(installation), timeout=200, every=1, what="the old pods are gone")
            sys.stdout.write(f"the old pods are gone: {count}\n")
    assert count.told >= UPGRADES * SOCKETS, "all have gone over to the new gateways, told to"
    assert not before & _uids(installation), "every pod was replaced"
    assert not count.failed, count
    assert not count.cut, count
    [same] = installation.workspace_pods()
    assert (same["metadata"]["uid"], same["metadata"]["labels"]) == (pod["metadata"]["uid"], pod["metadata"]["labels"])
    assert installation.api("GET", f"/workspaces/{workspace['id']}").json()["state"] == "running"


def _load(installation: Installation, ide: str, port: str) -> Load:
    """50 requests a second to the portal, the API, the editor and the user's program, and sockets to the last."""
    headers = {host: {"Cookie": value} for host, value in installation.signed_in(ide, port).items()}
    pages = [
        Page(DOMAIN, "/healthz", 10, fresh=True),
        Page(DOMAIN, "/api/v1/workspaces", 5, {"Authorization": f"Bearer {installation.token}"}),
        Page(port, "/", 10, headers[port], fresh=True),
        Page(port, "/", 20, headers[port]),
        Page(ide, "/healthz", 5, headers[ide]),
    ]
    return Load(installation.address, pages, sockets=SOCKETS, echo=Page(port, "/", 1, headers[port]))


def _settled(installation: Installation) -> bool:
    return all("deletionTimestamp" not in pod["metadata"] for pod in installation.pods())


def _uids(installation: Installation) -> set[str]:
    """The platform's running pods."""
    return {pod["metadata"]["uid"] for pod in installation.pods() if pod["status"]["phase"] == "Running"}
