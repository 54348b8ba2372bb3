"""Which addresses a workspace's policies let it reach, worked out as the API documents them: policies add up."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workspaces.runtime.errors import PlatformFault
from workspaces.runtime.k8s.config import CLOSED, Backup, K8sConfig, Peer
from workspaces.runtime.k8s.manifests.network import job_policy, policies
from workspaces.runtime.k8s.names import place

PODS, SERVICES, NODES = "10.244.0.0/16", "10.96.0.0/16", "203.0.113.0/24"


def config(**changes: Any) -> K8sConfig:
    values: dict[str, Any] = {
        "image": "i",
        "gateway": Peer({"kubernetes.io/metadata.name": "slipway"}, {"app": "gateway"}),
        "platform": Peer(networks=("10.9.9.9/32",)),
        "platform_url": "https://agents.slipway.svc:8443",
        "closed": (PODS, SERVICES, NODES),
        **changes,
    }
    return K8sConfig(**values)


def reaches(config: K8sConfig, address: str, port: int = 443) -> bool:
    """Whether any policy of a workspace lets it connect to this address, which belongs to no pod."""
    return _any_allows(policies(config, place(config, "demo")), address, port)


def _any_allows(found: list[dict[str, Any]], address: str, port: int) -> bool:
    rules = [rule for policy in found for rule in policy["spec"].get("egress", [])]
    return any(_allows(rule, ipaddress.ip_address(address), port) for rule in rules)


def _allows(rule: dict[str, Any], target: Any, port: int) -> bool:
    if rule.get("ports") and port not in {one["port"] for one in rule["ports"]}:
        return False
    blocks = [peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer]
    return any(
        target in ipaddress.ip_network(block["cidr"])
        and not any(target in ipaddress.ip_network(without) for without in block.get("except", []))
        for block in blocks
    )


NEVER = [
    "169.254.169.254", "fd00:ec2::254", "fe80::1", "100.100.100.200",  # metadata of the large clouds
    "10.244.0.7", "10.96.0.1", "203.0.113.9", "192.168.1.1", "172.20.0.1", "127.0.0.1", "::1", "0.0.0.0",
    "64:ff9b::a9fe:a9fe",  # metadata through NAT64
]  # fmt: skip


@pytest.mark.parametrize("address", NEVER)
@pytest.mark.parametrize("egress", ["none", "allow_list", "internet"])
def test_what_nobody_reaches(egress: str, address: str) -> None:
    assert not reaches(config(egress=egress), address)


@pytest.mark.parametrize("address", ["140.82.121.4", "2606:50c0:8000::153"])
def test_the_internet_is_reached_where_the_profile_says_so(address: str) -> None:
    assert reaches(config(egress="internet"), address)
    assert not reaches(config(egress="allow_list"), address)
    assert not reaches(config(egress="none"), address)


@pytest.mark.parametrize("egress", ["allow_list", "internet"])
def test_what_is_allowed_by_name_is_reached_though_it_is_private(egress: str) -> None:
    assert reaches(config(egress=egress, allowed=("10.20.0.0/24",)), "10.20.0.5")
    assert not reaches(config(egress="none", allowed=("10.20.0.0/24",)), "10.20.0.5")


@pytest.mark.parametrize("egress", ["none", "allow_list", "internet"])
def test_the_platform_is_reached_at_its_port_alone(egress: str) -> None:
    assert reaches(config(egress=egress), "10.9.9.9", 8443)
    assert not reaches(config(egress=egress), "10.9.9.9", 443)


@given(st.sampled_from([*CLOSED, PODS, SERVICES, NODES]), st.integers(min_value=0))
def test_nothing_inside_a_closed_block_is_reached(block: str, number: int) -> None:
    network = ipaddress.ip_network(block)
    address = network[number % network.num_addresses]
    assert not reaches(config(egress="internet"), str(address), 80)


def test_only_the_gateway_comes_in_and_only_by_the_door() -> None:
    rules = [
        rule for policy in policies(config(), place(config(), "demo")) for rule in policy["spec"].get("ingress", [])
    ]
    gateway = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "slipway"}},
        "podSelector": {"matchLabels": {"app": "gateway"}},
    }
    assert rules == [{"from": [gateway], "ports": [{"protocol": "TCP", "port": 7411}]}]


def test_everything_is_closed_first() -> None:
    own, shared = config(), config(layout="shared", namespace="all")
    (closed,) = [one for one in policies(own, place(own, "demo")) if one["metadata"]["name"] == "ws-demo-closed"]
    assert closed["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    (closed,) = [one for one in policies(shared, place(shared, "demo")) if one["metadata"]["name"] == "ws-demo-closed"]
    assert closed["spec"]["podSelector"] == {"matchLabels": {"slipway.dev/workspace": "demo"}}


@pytest.mark.parametrize(
    "changes",
    [{"allowed": ("10.0.0.300/8",)}, {"closed": ("nonsense",)}, {"egress": "some"}, {"user": 0}, {"request_share": 0},
     {"layout": "shared"}, {"namespace": "x"}, {"image": ""}, {"gateway": Peer(networks=("10.0.0.1/33",))}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_named(changes: dict[str, Any]) -> None:
    with pytest.raises(PlatformFault) as caught:
        config(**changes)
    assert caught.value.code == "runtime_misconfigured"
    assert caught.value.log_text != caught.value.user_text


@pytest.mark.parametrize(
    ("backup", "address", "port", "allowed"),
    [
        (Backup("registry.example/backups"), "198.51.100.7", 443, True),
        (Backup("registry.example/backups"), "198.51.100.7", 80, False),
        (Backup("registry.example/backups"), "203.0.113.9", 443, False),
        (Backup("registry.example/backups"), "169.254.169.254", 443, False),
        (Backup("registry.example:5000/b", network=Peer(networks=("10.9.9.8/32",))), "10.9.9.8", 5000, True),
        (Backup("registry.example:5000/b", network=Peer(networks=("10.9.9.8/32",))), "10.9.9.8", 443, True),
        (Backup("registry.example:5000/b", network=Peer(networks=("10.9.9.8/32",))), "10.9.9.8", 22, False),
        (Backup("registry.example:5000/b", network=Peer(networks=("10.9.9.8/32",))), "198.51.100.7", 443, False),
        (Backup("registry.example/b", insecure=True), "198.51.100.7", 80, True),
        (Backup("[2001:db8::1]:5000/b", network=Peer(networks=("2001:db8::1/128",))), "2001:db8::1", 5000, True),
    ],
)
def test_a_job_reaches_the_registry_alone(backup: Backup, address: str, port: int, allowed: bool) -> None:
    found = config(backup=backup)
    policy = job_policy(found, backup, place(found, "demo"))
    assert _any_allows([policy], address, port) is allowed
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policy["spec"]
