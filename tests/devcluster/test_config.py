"""What an administrator may say of a dev cluster, and what follows from it without asking one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from kernel.errors import PlatformFault
from workspaces import checks
from workspaces.runtime.k8s.config import KUBE_DNS, K8sConfig, Peer
from workspaces.runtime.k8s.devcluster import DevConfig, build, manifests
from workspaces.runtime.k8s.devcluster import config as module
from workspaces.runtime.k8s.devcluster.config import DEVELOPER, LIMITS, QUOTA, ContainerLimits, read_options
from workspaces.runtime.k8s.manifests import network
from workspaces.runtime.k8s.names import place
from workspaces.services import devclusters

SCHEMA = json.loads(Path(module.__file__).with_name("options.schema.json").read_text())
GOOD = {"server": "https://api.dev.example.com:6443"}
RULE = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
RBAC = "rbac.authorization.k8s.io"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "'server' is a required property"),
        ({"server": "http://api.example.com"}, "`server`"),
        ({"server": "https://"}, "`server`"),
        ({"server": "https://user:secret@api.example.com"}, "`server`"),
        ({**GOOD, "sever": "x"}, "'sever' was unexpected"),
        ({**GOOD, "certificate_authority": "/nonexistent"}, "`certificate_authority` /nonexistent"),
        ({**GOOD, "certificate_authority": __file__}, "`certificate_authority`"),
        ({**GOOD, "kubeconfig": "/nonexistent"}, "kubeconfig"),
        ({**GOOD, "prefix": ""}, "`prefix`"),
        ({**GOOD, "prefix": "Dev"}, "`prefix`"),
        ({**GOOD, "instance": "a_b"}, "`instance`"),
        ({**GOOD, "role": "cluster-admin"}, "`role`: cluster-admin"),
        ({**GOOD, "role": "admin"}, "`role`: admin"),
        ({**GOOD, "role": []}, "`role`"),
        ({**GOOD, "role": [{"apiGroups": [""], "resources": ["pods"]}]}, "'verbs' is a required property"),
        ({**GOOD, "role": [{**RULE, "verbs": ["*"]}]}, "name their verbs"),
        ({**GOOD, "role": [{**RULE, "verbs": ["impersonate"]}]}, "impersonate"),
        ({**GOOD, "role": [RULE, {**RULE, "apiGroups": ["*"], "verbs": ["create"]}]}, "name their verbs"),
        ({**GOOD, "role": [{"apiGroups": [RBAC], "resources": ["rolebindings"], "verbs": ["create"]}]}, "bindings"),
        ({**GOOD, "quota": {"pods": -1}}, "`quota.pods`"),
        ({**GOOD, "quota": {"pods": "many"}}, "`quota.pods`"),
        ({**GOOD, "limits": {"maximum": {}}}, "`limits`"),
        ({**GOOD, "limits": {"max": {"memory": "1 GB"}}}, "`limits.max.memory`"),
        ({**GOOD, "pod_security": "privileged"}, "`pod_security`"),
        ({**GOOD, "egress": "all"}, "`egress`"),
        ({**GOOD, "allowed": ["10.0.0.1/8"]}, "'10.0.0.1/8' is not a CIDR block"),
        ({**GOOD, "ingress": [{"networks": ["here"]}]}, "'here' is not a CIDR block"),
        ({**GOOD, "ingress": [{}]}, "`ingress.0`"),
        ({**GOOD, "token_seconds": 599}, "`token_seconds`"),
        ({**GOOD, "token_seconds": 3601}, "`token_seconds`"),
        ({**GOOD, "token_seconds": "900"}, "`token_seconds`"),
    ],
)
def test_a_mistake_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(PlatformFault) as caught:
        build(options)
    assert caught.value.code == "dev_cluster_misconfigured"
    assert said in caught.value.log_text


def test_a_mistake_stops_the_start(settings: Any) -> None:
    settings.DEV_CLUSTER = {**settings.DEV_CLUSTER, "options": {"server": "here"}}
    devclusters.dev_cluster.cache_clear()
    (error,) = checks.dev_cluster_is_set_up()
    assert "`server`" in error.msg
    settings.DEV_CLUSTER = {**settings.DEV_CLUSTER, "options": {}}
    devclusters.dev_cluster.cache_clear()
    assert checks.dev_cluster_is_set_up() == []
    assert devclusters.told("demo") == {}


def test_options_become_what_the_adapter_wants() -> None:
    found = read_options(
        {
            **GOOD,
            "role": [RULE],
            "quota": {"pods": 5},
            "limits": {"max": {"cpu": 2}},
            "allowed": ["192.0.2.0/24"],
            "ingress": [{"namespace": {"app": "ingress"}}],
            "audiences": ["https://kubernetes.default.svc"],
        }
    )
    assert found == DevConfig(
        server=GOOD["server"],
        role=(RULE,),
        quota={"pods": "5"},
        limits=ContainerLimits(max={"cpu": "2"}),
        allowed=("192.0.2.0/24",),
        ingress=(Peer(namespace={"app": "ingress"}),),
        audiences=("https://kubernetes.default.svc",),
    )
    usual = read_options(GOOD)
    assert (usual.role, usual.quota, usual.limits, usual.dns) == (DEVELOPER, QUOTA, LIMITS, KUBE_DNS)


def test_the_schema_is_about_the_same_options_with_the_same_defaults() -> None:
    fields = {field.name: field for field in dataclasses.fields(DevConfig)}
    assert SCHEMA["properties"].keys() == fields.keys()
    for name, told in SCHEMA["properties"].items():
        assert told["description"]
        if "default" in told:
            assert told["default"] == fields[name].default, name


def test_what_the_schema_takes_the_usual_role_is() -> None:
    read_options({**GOOD, "role": [dict(rule) for rule in DEVELOPER], "quota": dict(QUOTA)})


@pytest.mark.parametrize("name", ["Demo", "a.b", "../x", "a" * 60, ""])
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(PlatformFault):
        manifests.place(read_options(GOOD), name)


def policies(**changes: Any) -> dict[str, Any]:
    config = read_options({**GOOD, **changes})
    found = manifests.policies(config, manifests.place(config, "demo"))
    return {policy["metadata"]["name"].removeprefix("slipway-"): policy["spec"] for policy in found}


def test_namespaces_are_closed_to_each_other() -> None:
    found = policies(closed=["203.0.113.0/24"])
    assert found["closed"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    own: list[dict[str, Any]] = [{"podSelector": {}}]
    assert (found["inside"]["ingress"], found["inside"]["egress"]) == ([{"from": own}], [{"to": own}])
    assert "ingress" not in found
    assert all("ingress" not in spec for name, spec in found.items() if name != "inside")
    blocks = [peer["ipBlock"] for peer in found["egress"]["egress"][0]["to"]]
    for closed in ("10.0.0.0/8", "169.254.0.0/16", "203.0.113.0/24"):
        assert closed in blocks[0]["except"]


def test_profiles_and_visitors() -> None:
    assert set(policies(egress="none")) == {"closed", "inside", "names"}
    assert set(policies(egress="allow_list")) == {"closed", "inside", "names"}
    to = [{"ipBlock": {"cidr": "192.0.2.0/24"}}]
    assert policies(egress="allow_list", allowed=["192.0.2.0/24"])["egress"]["egress"] == [{"to": to}]
    visitors = policies(ingress=[{"namespace": {"app": "ingress"}}, {"networks": ["192.0.2.1/32"]}])["ingress"]
    assert visitors["policyTypes"] == ["Ingress"]
    assert len(visitors["ingress"][0]["from"]) == 2


@pytest.mark.parametrize("egress", ["none", "allow_list", "internet"])
def test_a_workspace_reaches_the_api_server_of_the_dev_cluster_alone(egress: Any) -> None:
    config = K8sConfig(image="i", egress=egress, dev_api=Peer(networks=("10.7.0.1/32",)), dev_api_ports=(6443,))
    without = dataclasses.replace(config, dev_api=Peer())
    at = place(config, "demo")
    more = [policy for policy in network.policies(config, at) if policy not in network.policies(without, at)]
    assert [policy["metadata"]["name"] for policy in more] == ["ws-demo-dev-api"]
    assert more[0]["spec"]["egress"] == [
        {"to": [{"ipBlock": {"cidr": "10.7.0.1/32"}}], "ports": [{"protocol": "TCP", "port": 6443}]}
    ]
    assert "ingress" not in more[0]["spec"]
