"""The node of the tests is a real one: it runs pods, keeps their data, isolates and limits them."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import images, manifests, network
from tests.cluster.access import Cluster
from tests.cluster.node import Node
from tests.support.waiting import eventually

Json = dict[str, Any]
# The first test may wait for another run's node.
pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]
SERVE = ("python3", "-m", "http.server", "8080")
CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1).close()
except OSError as error:
    print(error)
else:
    print("open")
"""

# Says five times whether the machine is reached, from the first moment on; a refused connection has reached it.
AT_ONCE = """
import socket, sys, time
for _ in range(5):
    try:
        socket.create_connection((sys.argv[1], 1), timeout=0.2)
    except ConnectionRefusedError:
        print("open")
    except OSError:
        print("shut")
time.sleep(3600)
"""


def start(cluster: Cluster, manifest: Json) -> Json:
    """Create a pod, and wait until it is Ready."""
    cluster.apply(manifest)
    name, space = manifest["metadata"]["name"], manifest["metadata"]["namespace"]

    def ready() -> Json:
        found = cluster.get("pod", name, space)
        return found if manifests.is_ready(found) else {}

    found: Json = eventually(ready, timeout=60, every=0.1, what=f"the pod {name} is ready")
    return found


def execute(cluster: Cluster, space: str, pod: str, *command: str) -> str:
    """What a command prints in a pod."""
    return cluster.kubectl("exec", "--namespace", space, pod, "--", *command)


def reaches(cluster: Cluster, space: str, pod: str, address: str, port: int = 8080) -> bool:
    """Whether a pod can connect to an address."""
    return execute(cluster, space, pod, "python3", "-c", CONNECT, address, str(port)).strip() == "open"


@pytest.fixture
def space(request: pytest.FixtureRequest, node: Node) -> Iterator[Callable[..., str]]:
    """Makes namespaces under `restricted`, named after the test."""
    made: list[str] = []

    def make(suffix: str = "", **labels: str) -> str:
        name: str = request.node.name.removeprefix("test_").replace("_", "-")[:50] + suffix
        node.control_plane.apply(manifests.namespace(name, **labels))
        made.append(name)
        return name

    yield make
    node.control_plane.kubectl("delete", "namespace", "--wait=false", *made)


def test_a_volume_outlives_its_pod(node: Node, space: Callable[..., str]) -> None:
    cluster, name = node.control_plane, space()
    home = {"/home/dev": manifests.claimed("home")}
    cluster.apply(manifests.claim("home", name))
    start(cluster, manifests.pod("first", name, volumes=home))
    written = "id -u > /home/dev/who && cat /home/dev/who"
    assert execute(cluster, name, "first", "sh", "-c", written).strip() == "1000"
    cluster.kubectl("delete", "pod", "first", "--namespace", name)
    start(cluster, manifests.pod("second", name, volumes=home))
    assert execute(cluster, name, "second", "cat", "/home/dev/who").strip() == "1000"
    volume = cluster.get("pvc", "home", name)["spec"]["volumeName"]
    cluster.kubectl("delete", "pod", "second", "--namespace", name)
    cluster.kubectl("delete", "pvc", "home", "--namespace", name)
    eventually(lambda: not cluster.get("pv", volume) and not (node.folder / "volumes" / volume).exists())


def test_root_in_a_pod_with_users_of_its_own_is_nobody_outside(node: Node, space: Callable[..., str]) -> None:
    cluster, name = node.control_plane, space()
    start(cluster, manifests.pod("apart", name, hostUsers=False))
    inside, outside, count = execute(cluster, name, "apart", "cat", "/proc/self/uid_map").split()
    assert (inside, count) == ("0", "65536")
    assert int(outside) >= 65536


def test_an_image_is_a_volume(node: Node, space: Callable[..., str], tmp_path: Path) -> None:
    cluster, name = node.control_plane, space()
    files = images.from_files({"/tool/version": b"7"})
    node.load_image(images.write_image(tmp_path / "tool.tar", "slipway.test/tool:7", files))
    tools = {"/opt/tools": {"image": {"reference": "slipway.test/tool:7", "pullPolicy": "Never"}}}
    start(cluster, manifests.pod("with-tools", name, volumes=tools))
    assert execute(cluster, name, "with-tools", "cat", "/opt/tools/tool/version") == "7"
    refused = execute(cluster, name, "with-tools", "sh", "-c", "echo 8 > /opt/tools/tool/version; echo $?")
    assert refused.strip() != "0"


def test_memory_limits_are_kept(node: Node, space: Callable[..., str]) -> None:
    cluster, name = node.control_plane, space()
    greedy = manifests.pod("greedy", name, "python3", "-c", "x = bytearray(400 * 2**20)", restartPolicy="Never")
    cluster.apply(greedy)

    def reason() -> str:
        query = "jsonpath={.status.containerStatuses[*].state.terminated.reason}"
        return cluster.kubectl("get", "pod", "greedy", "--namespace", name, "--output", query)

    assert eventually(reason, timeout=60, every=0.1) == "OOMKilled"


def test_a_service_leads_to_its_pod(node: Node, space: Callable[..., str]) -> None:
    cluster, name = node.control_plane, space()
    start(cluster, manifests.pod("web", name, *SERVE))
    start(cluster, manifests.pod("client", name))
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}
    cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": name}, "spec": spec})
    address = cluster.get("service", "web", name)["spec"]["clusterIP"]
    eventually(lambda: reaches(cluster, name, "client", address, 80), what="the service answers")
    assert reaches(cluster, name, "client", network.API_SERVICE, 443), "the API is a service, too"


def test_policies_stop_connections_and_let_named_ones_through(node: Node, space: Callable[..., str]) -> None:
    cluster, name, elsewhere = node.control_plane, space(), space("-else")
    web = start(cluster, manifests.pod("web", name, *SERVE))["status"]["podIP"]
    for pod, where in (("friend", name), ("stranger", name), ("far", elsewhere)):
        start(cluster, manifests.pod(pod, where))
    ask = partial(reaches, cluster)
    assert [ask(name, "friend", web), ask(name, "stranger", web), ask(elsewhere, "far", web)] == [True, True, True]

    deny = manifests.policy("deny", name, policyTypes=["Ingress", "Egress"])
    cluster.apply(deny)
    eventually(lambda: not ask(name, "friend", web), what="the policy denies all")
    assert not ask(elsewhere, "far", web)
    assert not ask(name, "friend", network.NODE, 10250), "the node is not reachable either"

    friends = {"podSelector": {"matchLabels": {"app": "friend"}}}
    port = {"port": 8080, "protocol": "TCP"}
    into = manifests.policy("in", name, ingress=[{"from": [friends], "ports": [port]}], policyTypes=["Ingress"])
    out = manifests.policy("out", name, egress=[{"ports": [port]}], policyTypes=["Egress"])
    cluster.apply(into, out)
    eventually(lambda: ask(name, "friend", web), what="the policy lets the friend through")
    assert not ask(name, "stranger", web)
    assert not ask(elsewhere, "far", web)
    assert manifests.is_ready(cluster.get("pod", "web", name))

    cluster.kubectl("delete", "networkpolicy", "--all", "--namespace", name)
    eventually(lambda: ask(name, "stranger", web), what="without a policy all is open again")


def test_a_pod_is_shut_in_from_its_first_moment(node: Node, space: Callable[..., str]) -> None:
    cluster, name = node.control_plane, space()

    def says(pod: str) -> list[str]:
        start(cluster, manifests.pod(pod, name, "python3", "-u", "-c", AT_ONCE, network.MACHINE))

        def all_said() -> list[str]:
            said = cluster.kubectl("logs", "--namespace", name, pod).split()
            return said if len(said) == 5 else []

        said: list[str] = eventually(all_said, what=f"{pod} has said all")
        return said

    cluster.apply(manifests.policy("deny", name, policyTypes=["Ingress", "Egress"]))
    assert [says(f"shut-{index}") for index in range(3)] == [["shut"] * 5] * 3
    allow = {"to": [{"ipBlock": {"cidr": f"{network.MACHINE}/32"}}]}
    cluster.apply(manifests.policy("allow", name, egress=[allow], policyTypes=["Egress"]))
    assert says("open") == ["open"] * 5, "what is allowed is so from the first moment, too"


def test_this_machine_can_be_the_outside_of_the_cluster(node: Node, space: Callable[..., str]) -> None:
    """Cloud metadata, for one, may be an address that pods must not reach."""
    cluster, name, metadata = node.control_plane, space(), "169.254.169.254"
    node.add_outside(metadata)
    start(cluster, manifests.pod("client", name))
    answer = execute(cluster, name, "client", "python3", "-c", CONNECT, metadata, "80")
    assert "refused" in answer, "it is reached, and nothing listens there"
    block = {"ipBlock": {"cidr": "0.0.0.0/0", "except": [f"{metadata}/32"]}}
    cluster.apply(manifests.policy("out", name, egress=[{"to": [block]}], policyTypes=["Egress"]))
    eventually(lambda: "timed out" in execute(cluster, name, "client", "python3", "-c", CONNECT, metadata, "80"))
    assert "refused" in execute(cluster, name, "client", "python3", "-c", CONNECT, network.MACHINE, "1")


@pytest.mark.allow_hosts(["127.0.0.1", network.PODS])
def test_this_machine_comes_in_where_a_policy_names_it(node: Node, space: Callable[..., str]) -> None:
    cluster, name = node.control_plane, space()
    address = start(cluster, manifests.pod("web", name, *SERVE))["status"]["podIP"]

    def comes_in() -> bool:
        with suppress(OSError), socket.create_connection((address, 8080), timeout=1):
            return True
        return False

    eventually(comes_in, what="without a policy it comes in")
    cluster.apply(manifests.policy("deny", name, policyTypes=["Ingress"]))
    eventually(lambda: not comes_in(), what="it is shut out")
    machine = {"from": [{"ipBlock": {"cidr": f"{network.MACHINE}/32"}}], "ports": [{"port": 8080}]}
    cluster.apply(manifests.policy("machine", name, ingress=[machine], policyTypes=["Ingress"]))
    eventually(comes_in, what="it comes in again")


def test_what_was_done_is_in_the_audit_log(node: Node) -> None:
    cluster = node.control_plane
    cluster.kubectl("create", "configmap", "audited")
    cluster.kubectl("delete", "configmap", "audited")
    lines = map(json.loads, cluster.audit_log.read_text(encoding="utf-8").splitlines())
    done = [line["verb"] for line in lines if line.get("objectRef", {}).get("name") == "audited"]
    assert {"create", "delete"} <= set(done)
