"""Which rules follow from which NetworkPolicies: by tables, without a cluster."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import attach, enforcer, manifests
from tests.cluster.policies import matches, ruleset

Json = dict[str, Any]


def running(name: str, space: str, *addresses: str, ports: list[Json] | None = None, **labels: str) -> Json:
    found = manifests.pod(name, space)
    found["metadata"]["labels"] |= labels
    found["spec"]["containers"][0]["ports"] = ports or []
    found["status"] = {"phase": "Running", "podIPs": [{"ip": address} for address in addresses]}
    return found


HTTP: list[Json] = [{"name": "http", "containerPort": 8080}, {"containerPort": 9000}]
WEB = running("web", "one", "10.244.0.2", ports=HTTP)
DATA = running("data", "one", "10.244.0.3", tier="back")
OTHER = running("other", "two", "10.244.0.4", ports=[{"name": "http", "containerPort": 80}])
BOTH = running("both", "two", "10.244.0.5", "fd00::5")
PODS = [WEB, DATA, OTHER, BOTH]
NAMESPACES = [manifests.namespace("one", kind="workspace"), manifests.namespace("two", kind="platform")]
TO_WEB = {"matchLabels": {"app": "web"}}
INGRESS = {"policyTypes": ["Ingress"]}
EGRESS = {"policyTypes": ["Egress"]}


def rules(*policies: Json, known: list[Json] | None = None) -> dict[str, list[str]]:
    """The lines of each chain, without what is always there."""
    text = ruleset(PODS if known is None else known, NAMESPACES, list(policies), network="10.244.0.0/24")
    chains = re.findall(r"chain (\w+) \{\n(.*?)  \}", text, re.DOTALL)
    fixed = ("type filter", "ct state", "icmpv6", "ip saddr 10.244.0.0/24 ", "ip daddr 10.244.0.0/24 ")
    return {
        name: [line.strip() for line in body.splitlines() if not line.strip().startswith(fixed)]
        for name, body in chains
    }


WEB_IN, ONE_IN = "ip daddr { 10.244.0.2 }", "ip daddr { 10.244.0.2, 10.244.0.3 }"
WEB_OUT = "ip saddr { 10.244.0.2 }"


@pytest.mark.parametrize(
    ("rule", "lines"),
    [
        ({}, [f"{WEB_IN} return"]),
        ({"from": []}, [f"{WEB_IN} return"]),
        ({"ports": [{"port": 8080}]}, [f"{WEB_IN} tcp dport 8080 return"]),
        ({"ports": [{"port": 1, "endPort": 9, "protocol": "UDP"}]}, [f"{WEB_IN} udp dport 1-9 return"]),
        ({"ports": [{"protocol": "UDP"}]}, [f"{WEB_IN} meta l4proto udp return"]),
        ({"ports": [{"port": "http"}]}, [f"{WEB_IN} tcp dport 8080 return"]),
        ({"ports": [{"port": "nothing"}]}, []),
        ({"from": [{"podSelector": {}}]}, [f"{WEB_IN} ip saddr {{ 10.244.0.2, 10.244.0.3 }} return"]),
        ({"from": [{"podSelector": {"matchLabels": {"app": "other"}}}]}, []),
        (
            {"from": [{"namespaceSelector": {"matchLabels": {"kind": "platform"}}, "podSelector": {}}]},
            [f"{WEB_IN} ip saddr {{ 10.244.0.4, 10.244.0.5 }} return"],
        ),
        (
            {"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "other"}}}]},
            [f"{WEB_IN} ip saddr {{ 10.244.0.4 }} return"],
        ),
        (
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.2.0.0/16"]}}]},
            [f"{WEB_IN} ip saddr 10.0.0.0/8 ip saddr != 10.1.0.0/16 ip saddr != 10.2.0.0/16 return"],
        ),
        ({"from": [{"ipBlock": {"cidr": "fd00::/8"}}]}, []),
        (
            {"from": [{"podSelector": {"matchLabels": {"app": "data"}}}, {"ipBlock": {"cidr": "0.0.0.0/0"}}]},
            [f"{WEB_IN} ip saddr {{ 10.244.0.3 }} return", f"{WEB_IN} ip saddr 0.0.0.0/0 return"],
        ),
    ],
)
def test_what_may_come_in(rule: Json, lines: list[str]) -> None:
    found = rules(manifests.policy("p", "one", podSelector=TO_WEB, ingress=[rule], **INGRESS))
    assert found["ingress"] == [*lines, "drop"]
    assert found["through"] == [f"{WEB_IN} jump ingress"]
    assert found["to_node"] == []


@pytest.mark.parametrize(
    ("rule", "lines"),
    [
        ({}, [f"{WEB_OUT} return"]),
        ({"ports": [{"port": 53, "protocol": "UDP"}]}, [f"{WEB_OUT} udp dport 53 return"]),
        (
            {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]}}]},
            [f"{WEB_OUT} ip daddr 0.0.0.0/0 ip daddr != 169.254.169.254/32 return"],
        ),
        (
            {"to": [{"namespaceSelector": {"matchLabels": {"kind": "platform"}}}], "ports": [{"port": "http"}]},
            [f"{WEB_OUT} ip daddr {{ 10.244.0.4, 10.244.0.5 }} ip daddr {{ {ip} }} tcp dport {port} return"
             for ip, port in (("10.244.0.2", 8080), ("10.244.0.4", 80))],
        ),
    ],
)  # fmt: skip
def test_what_may_go_out(rule: Json, lines: list[str]) -> None:
    found = rules(manifests.policy("p", "one", podSelector=TO_WEB, egress=[rule], **EGRESS))
    assert found["egress"] == [*lines, "drop"]
    assert found["through"] == found["to_node"] == [f"{WEB_OUT} jump egress"]


def test_without_a_policy_nothing_is_stopped() -> None:
    assert rules() == {"ingress": ["drop"], "egress": ["drop"], "through": [], "to_node": []}


def test_deny_all_stops_both_ways_of_its_namespace_only() -> None:
    found = rules(manifests.policy("deny", "one", policyTypes=["Ingress", "Egress"]))
    assert found["ingress"] == found["egress"] == ["drop"]
    assert found["through"] == ["ip saddr { 10.244.0.2, 10.244.0.3 } jump egress", f"{ONE_IN} jump ingress"]


def test_policies_add_up() -> None:
    deny = manifests.policy("deny", "one", **INGRESS)
    allow = manifests.policy("allow", "one", podSelector=TO_WEB, ingress=[{"ports": [{"port": 8080}]}], **INGRESS)
    found = rules(deny, allow)
    assert found["ingress"] == [f"{WEB_IN} tcp dport 8080 return", "drop"]
    assert found["through"] == [f"{ONE_IN} jump ingress"]


def test_directions_follow_from_the_rules_where_they_are_not_named() -> None:
    assert rules(manifests.policy("p", "one"))["through"] == [f"{ONE_IN} jump ingress"]
    both = rules(manifests.policy("p", "one", egress=[]))
    assert both["through"] == ["ip saddr { 10.244.0.2, 10.244.0.3 } jump egress", f"{ONE_IN} jump ingress"]


def test_both_families_are_isolated() -> None:
    policy = manifests.policy("p", "two", podSelector={"matchLabels": {"app": "both"}}, ingress=[{}], **INGRESS)
    assert rules(policy)["through"] == ["ip daddr { 10.244.0.5 } jump ingress", "ip6 daddr { fd00::5 } jump ingress"]
    assert rules(policy)["ingress"] == [
        "ip daddr { 10.244.0.5 } return",
        "ip6 daddr { fd00::5 } return",
        "drop",
    ]


def test_pods_that_are_not_on_the_pod_network_are_left_out() -> None:
    waiting, ended, host = running("a", "one"), running("b", "one", "10.244.0.8"), running("c", "one", "10.89.0.2")
    ended["status"]["phase"] = "Succeeded"
    host["spec"]["hostNetwork"] = True
    assert rules(manifests.policy("deny", "one"), known=[waiting, ended, host])["through"] == []


def test_the_table_replaces_the_one_that_is_loaded() -> None:
    lines = ruleset([], [], [], network="10.244.0.0/24").splitlines()
    assert lines[:2] == ["table inet slipway_policies", "delete table inet slipway_policies"]


def test_pods_that_are_not_known_are_shut_in_before_anything_else() -> None:
    nobody = ruleset([], [], [], network="10.244.0.0/24")
    assert "ip saddr 10.244.0.0/24 drop\n    ip daddr 10.244.0.0/24 drop\n    ct state" in nobody
    text = ruleset([BOTH, WEB], [], [], network="10.244.0.0/24")
    for end in ("saddr", "daddr"):
        assert f"ip {end} 10.244.0.0/24 ip {end} != {{ 10.244.0.2, 10.244.0.5 }} drop" in text


def test_a_note_tells_an_address_before_the_api_does(tmp_path: Path) -> None:
    note = attach.note_of("IgnoreUnknown=1;K8S_POD_NAME=web;K8S_POD_UID=u", {"ips": [{"address": "10.244.0.9/24"}]})
    (tmp_path / "sandbox").write_text(json.dumps(note), encoding="utf-8")
    (tmp_path / attach.LOADED).touch()
    (tmp_path / ".new").write_text("{", encoding="utf-8")
    (tmp_path / "ended").symlink_to("gone meanwhile")
    started, other = running("web", "one"), running("data", "one", "10.244.0.3")
    started["metadata"]["uid"], other["metadata"]["uid"] = "u", "v"
    pods = enforcer.with_addresses([started, other], enforcer.read_notes(tmp_path))
    assert [pod["status"]["podIPs"] for pod in pods] == [[{"ip": "10.244.0.9"}], [{"ip": "10.244.0.3"}]]


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ({}, True),
        ({"matchLabels": {"a": "1"}}, True),
        ({"matchLabels": {"a": "2"}}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["1"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, False),
        ({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]}, False),
    ],
)
def test_selectors(selector: Json, selected: bool) -> None:
    assert matches(selector, {"a": "1"}) is selected
