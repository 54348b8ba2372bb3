"""Workspaces on a real node: what lasts, how they end, and that each wall holds from the inside."""

from __future__ import annotations

import contextlib
import http.server
import json
import secrets
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.cluster import images, network
from tests.cluster.node import Node
from tests.runtime.k8s.conftest import Stage, patiently
from tests.runtime.rigs import AGENT
from tests.support.waiting import eventually
from workspaces.runtime.k8s import K8sRuntime, Peer
from workspaces.runtime.port import Limits, Observation, Presence, RunSpec

# Besides this machine itself, the tests may reach the pods.
pytestmark = [pytest.mark.node, pytest.mark.timeout(900), pytest.mark.allow_hosts(["127.0.0.1", network.PODS])]

OUTSIDE, METADATA = "203.0.113.7", "169.254.169.254"
LIMITS = Limits(cpu=1, memory=256 * 2**20)
CONNECT = "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2); print('open')"
SERVE = "python3 -m http.server {port} >/dev/null 2>&1 &"


class NodeStage(Stage):
    """The adapter with a node that runs what it starts."""

    def run(
        self, name: str, *commands: str, number: int = 1, limits: Limits = LIMITS, runtime: K8sRuntime | None = None,
        **agent: Any,
    ) -> Observation:  # fmt: skip
        """Start a run whose agent runs these commands, and wait until it has."""
        chosen = runtime or self.runtime()
        patiently(lambda: chosen.ensure_volume(name))
        patiently(lambda: chosen.ensure_run(RunSpec(name, number, {"commands": list(commands), **agent}, {}, limits)))
        done = ("ready", "exits", "eats")
        if agent.get("behaviour") not in done:
            eventually(lambda: b'"ready"' in chosen.logs(name), timeout=120, every=0.2, what=f"{name} is ready")
        return chosen.observe(name)

    def said(self, name: str) -> list[dict[str, Any]]:
        """What each command of the run printed."""
        lines = [json.loads(line) for line in self.runtime().logs(name).splitlines() if line.startswith(b"{")]
        return [line for line in lines if "command" in line]

    def end(self, name: str, grace: float = 5) -> None:
        runtime = self.runtime()
        runtime.stop(name, grace=grace)
        eventually(lambda: runtime.observe(name).presence is not Presence.RUNNING, timeout=60, every=0.1)
        patiently(lambda: runtime.destroy_run(name))


@pytest.fixture
def place(node: Node) -> Iterator[NodeStage]:
    tag = f"t{secrets.token_hex(4)}"
    values = {
        "kubeconfig": Path(node.control_plane.kubeconfig),
        "image": images.WORKSPACE,
        "command": ("/usr/bin/python3", "-u", "-c", AGENT),
        "prefix": f"{tag}-",
        "instance": tag,
        "gateway": Peer(networks=(f"{network.MACHINE}/32",)),
        "closed": (network.PODS, network.SERVICES, network.LINK_NETWORK),
        "volume_bytes": 2**30,
        "stop_grace": 5,
    }
    yield NodeStage(node.control_plane, values)
    node.control_plane.kubectl("delete", "namespace", "--selector", f"slipway.dev/instance={tag}", "--wait=false")


@contextlib.contextmanager
def listening(*addresses: str) -> Iterator[int]:
    """A web server of this machine's at each address, all at the same port."""

    class Quiet(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.end_headers()

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *arguments: Any) -> None:
            return

    servers: list[http.server.ThreadingHTTPServer] = []
    port = 0
    try:
        for address in addresses:
            server = http.server.ThreadingHTTPServer((address, port), Quiet)
            port = server.server_port
            servers.append(server)
            threading.Thread(target=server.serve_forever, daemon=True).start()
        yield port
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def test_files_outlive_the_pod_and_nothing_else_does(place: NodeStage) -> None:
    place.run("demo", "echo kept > ~/kept.txt", "echo gone > /tmp/gone.txt", "id -u; ls -ld ~")
    ids = place.said("demo")[2]["out"]
    assert ids.startswith("1000\n")
    place.end("demo")
    runtime = place.runtime()
    assert runtime.observe("demo").presence is Presence.ABSENT
    assert b'"ready"' in runtime.logs("demo", run=1), "the log outlives the pod"
    place.run("demo", "cat ~/kept.txt", "cat /tmp/gone.txt", number=2)
    kept, gone = place.said("demo")
    assert kept["out"] == "kept\n"
    assert gone["code"] != 0


def test_an_end_by_itself_is_seen_with_its_code(place: NodeStage) -> None:
    runtime = place.runtime()
    place.run("demo", behaviour="exits")
    seen = eventually(
        lambda: found if (found := runtime.observe("demo")).presence is Presence.EXITED else None, timeout=60
    )
    assert seen is not None
    assert (seen.exit_code, seen.reason) == (3, "")
    assert [step.status for step in seen.steps] == ["done"] * 4


def test_too_much_memory_is_told_as_such(place: NodeStage) -> None:
    runtime = place.runtime()
    place.run("demo", behaviour="eats")
    eventually(lambda: runtime.observe("demo").presence is Presence.EXITED, timeout=120)
    assert (runtime.observe("demo").exit_code, runtime.observe("demo").reason) == (-9, "oom_killed")


def test_a_deaf_run_is_ended_when_its_time_is_over(place: NodeStage) -> None:
    place.run("demo", behaviour="deaf")
    place.end("demo", grace=1)
    assert place.runtime().observe("demo").presence is Presence.ABSENT


def test_an_evicted_pod_leaves_its_volume(place: NodeStage) -> None:
    place.run("demo", "echo kept > ~/kept.txt")
    name = f"{place.prefix}demo"
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": name}}
    place.cluster.kubectl(
        "create", "--raw", f"/api/v1/namespaces/{name}/pods/{name}/eviction", "-f", "-", text=json.dumps(eviction)
    )
    runtime = place.runtime()
    eventually(lambda: runtime.observe("demo").presence in {Presence.EXITED, Presence.ABSENT}, timeout=60)
    patiently(lambda: runtime.destroy_run("demo"))
    place.run("demo", "cat ~/kept.txt", number=2)
    assert place.said("demo")[0]["out"] == "kept\n"


def test_an_image_that_a_registry_does_not_have_is_told_at_once(place: NodeStage, node: Node) -> None:
    with listening(network.MACHINE) as port:
        node.add_registry("registry.test", f"http://{network.MACHINE}:{port}")
        runtime = place.runtime(image="registry.test/none:1")
        patiently(lambda: runtime.ensure_volume("demo"))
        patiently(lambda: runtime.ensure_run(RunSpec("demo", 1, {}, {}, LIMITS)))
        eventually(lambda: runtime.observe("demo").reason == "image_missing", timeout=60, every=0.2)
    (step,) = [step for step in runtime.observe("demo").steps if step.type == "image"]
    assert step.status == "failed"
    assert "registry.test/none:1" in step.message


def test_a_user_namespace_of_its_own(place: NodeStage) -> None:
    place.run("demo", "cat /proc/self/uid_map", "echo kept > ~/kept.txt", runtime=place.runtime(host_users=False))
    mapping, written = place.said("demo")
    assert mapping["out"].split()[:2] != ["0", "0"]
    assert written["code"] == 0


@pytest.fixture(scope="module")
def outside(node: Node) -> Iterator[int]:
    """A port at which the internet, a cloud's metadata service and this machine answer."""
    for address in (OUTSIDE, METADATA):
        node.add_outside(address)
    with listening(OUTSIDE, METADATA, network.MACHINE) as port:
        yield port


def attempts(place: NodeStage, targets: Mapping[str, tuple[str, int]], **changes: Any) -> dict[str, bool]:
    """Which of these addresses a workspace's programs can connect to."""
    commands = [f'python3 -c "{CONNECT}" {address} {port}' for address, port in targets.values()]
    place.run("spy", *commands, runtime=place.runtime(**changes))
    return {name: said["out"] == "open\n" for name, said in zip(targets, place.said("spy"), strict=True)}


def test_a_workspace_reaches_the_internet_and_nothing_near_it(place: NodeStage, outside: int) -> None:
    seen = place.run("target", SERVE.format(port=8080), SERVE.format(port=7411))
    other = seen.upstream["ide"].removeprefix("tcp://").rpartition(":")[0]
    reached = attempts(
        place,
        {
            "internet": (OUTSIDE, outside),
            "metadata": (METADATA, outside),
            "platform's machine": (network.MACHINE, outside),
            "another workspace": (other, 8080),
            "another workspace's door": (other, 7411),
            "kubelet": (network.NODE, 10250),
            "API server": (network.API_SERVICE, 443),
        },
    )
    assert reached == {name: name == "internet" for name in reached}


def test_a_closed_profile_reaches_nothing_but_what_is_allowed(place: NodeStage, outside: int) -> None:
    targets = {"internet": (OUTSIDE, outside), "allowed": (network.MACHINE, outside)}
    reached = attempts(place, targets, egress="allow_list", allowed=(f"{network.MACHINE}/32",))
    assert reached == {"internet": False, "allowed": True}


def test_the_api_server_of_a_dev_cluster_is_one_more_address_and_no_more(
    place: NodeStage, node: Node, outside: int
) -> None:
    port = urlsplit(node.control_plane.url).port or 443
    targets = {"API server": (network.API_SERVICE, 443), "beside it": (network.MACHINE, outside)}
    server = {"dev_api": Peer(networks=(f"{network.MACHINE}/32",)), "dev_api_ports": (port,)}
    assert attempts(place, targets, egress="none", **server) == {"API server": True, "beside it": False}


def test_only_the_gateway_comes_in_and_only_by_the_door(place: NodeStage) -> None:
    seen = place.run("target", SERVE.format(port=8080), SERVE.format(port=7411))
    address = seen.upstream["ide"].removeprefix("tcp://").rpartition(":")[0]
    eventually(lambda: _connects(address, 7411), what="the program listens")
    assert not _connects(address, 8080)
    stranger = place.runtime(gateway=Peer(networks=("192.0.2.1/32",)))
    place.run("closed", SERVE.format(port=7411), runtime=stranger)
    address = stranger.observe("closed").upstream["ide"].removeprefix("tcp://").rpartition(":")[0]
    assert not _connects(address, 7411)


def _connects(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=2):
        return True
    return False


INSIDE = {
    "is root": "test $(id -u) = 0",
    "becomes root": "su root -c true || sudo -n true",
    "has a capability": "! grep -q 'CapEff:.*0000000000000000' /proc/self/status",
    "may gain rights": "grep -q 'NoNewPrivs:.*0' /proc/self/status",
    "runs without seccomp": "grep -q 'Seccomp:.*0$' /proc/self/status",
    "has a token": "test -e /var/run/secrets/kubernetes.io",
    "writes the image": "touch /etc/x || touch /usr/x || touch /x",
    "mounts": "mount -t tmpfs none /mnt",
    "sees the node's disk": "test -e /proc/1/root/var/lib/kubelet",
    "sees other processes": "test $(ls -d /proc/[0-9]* | wc -l) -gt 8",
    "changes what it was handed": "touch /run/agent/x",
    "makes a device": "mknod /tmp/d b 8 0",
    "loads a kernel's setting": "echo 1 > /proc/sys/kernel/panic",
}


def test_what_nobody_can_do_inside(place: NodeStage) -> None:
    place.run("spy", *INSIDE.values())
    done = {name: said["code"] == 0 for name, said in zip(INSIDE, place.said("spy"), strict=True)}
    assert done == dict.fromkeys(INSIDE, False)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("hostPath", {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}),
        ("hostNetwork", {"hostNetwork": True}),
        ("privileged", {"containers": [{"name": "c", "image": "i", "securityContext": {"privileged": True}}]}),
        ("root", {"securityContext": {"runAsUser": 0}}),
    ],
)
def test_not_even_the_platform_can_start_such_a_pod_in_a_workspaces_namespace(
    place: NodeStage, what: str, change: dict[str, Any]
) -> None:
    place.run("demo")
    name = f"{place.prefix}demo"
    found = place.cluster.get("pod", name, name)
    spec = {**found["spec"], **change}
    del spec["nodeName"]
    spec["volumes"] = [*found["spec"]["volumes"], *change.get("volumes", [])]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "evil", "namespace": name}, "spec": spec}
    with pytest.raises(Exception, match="violates PodSecurity"):
        place.cluster.kubectl("create", "--dry-run=server", "--filename", "-", text=json.dumps(pod))
