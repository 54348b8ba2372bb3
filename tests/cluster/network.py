"""The cluster's addresses. The node has a network namespace of its own; one link joins it with this machine."""

from __future__ import annotations

from tests.cluster.namespaces import Namespaces, run

LINK = "slipway0"
MACHINE = "10.89.0.1"  # This machine's end of the link; the API's address for the node and its pods.
NODE = "10.89.0.2"
LINK_NETWORK = "10.89.0.0/30"
PODS = "10.244.0.0/24"
SERVICES = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
NAME_SERVICE = "10.96.0.10"


def connect(node: Namespaces) -> None:
    """Join the node with this machine. The kernel removes both ends of the link, and the routes, with the node."""
    _ip(f"link add {LINK} type veth peer name uplink netns {node.pid}")
    _ip(f"address add {MACHINE}/30 dev {LINK}")
    _ip(f"link set {LINK} up")
    for command in (
        "link set lo up",
        f"address add {NODE}/30 dev uplink",
        "link set uplink up",
        f"route add default via {MACHINE}",
        # What kube-proxy does not rewrite ends here, instead of leaving by the default route.
        f"route add {SERVICES} dev lo",
    ):
        node.run("ip", *command.split())
    node.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    for target in (PODS, SERVICES):
        _ip(f"route add {target} via {NODE}")


def answer_at(address: str) -> None:
    """Let this machine answer at one more address (IPv4) of the link, until the node ends."""
    _ip(f"address replace {address}/32 dev {LINK}")


def _ip(command: str) -> None:
    run("ip", *command.split())
