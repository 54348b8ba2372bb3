"""What an administrator may write in the options, and what is said of the rest."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from kernel.errors import PlatformFault
from workspaces.runtime.k8s import Backup, K8sConfig, Peer, build
from workspaces.runtime.k8s import config as module
from workspaces.runtime.k8s.config import read_options

SCHEMA = json.loads(Path(module.__file__).with_name("options.schema.json").read_text())
BACKUP = {"repository": "registry.example:5000/slipway/backups"}
GOOD = {"image": "registry.example/workspace:1"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "'image' is a required property"),
        ({"image": ""}, "`image`"),
        ({**GOOD, "imag": "x"}, "'imag' was unexpected"),
        ({**GOOD, "layout": "mine"}, "`layout`"),
        ({**GOOD, "layout": "shared"}, "`namespace` belongs to"),
        ({**GOOD, "namespace": "all"}, "`namespace` belongs to"),
        ({**GOOD, "egress": "all"}, "`egress`"),
        ({**GOOD, "user": 0}, "`user`"),
        ({**GOOD, "user": "1000"}, "`user`"),
        ({**GOOD, "door_port": 80}, "`door_port`"),
        ({**GOOD, "request_share": 0}, "`request_share`"),
        ({**GOOD, "allowed": "10.0.0.0/8"}, "`allowed`"),
        ({**GOOD, "allowed": ["10.0.0.1/8"]}, "'10.0.0.1/8' is not a CIDR block"),
        ({**GOOD, "gateway": {"networks": ["gateway"]}}, "'gateway' is not a CIDR block"),
        ({**GOOD, "gateway": {"labels": {}}}, "`gateway`"),
        ({**GOOD, "platform_url": "slipway"}, "`platform_url`"),
        ({**GOOD, "prefix": "WS_"}, "`prefix`"),
        ({**GOOD, "volume_bytes": "10Gi"}, "`volume_bytes`"),
        ({**GOOD, "backup": {}}, "'repository' is a required property"),
        ({**GOOD, "backup": {"repository": "registry.example"}}, "`backup.repository`"),
        ({**GOOD, "backup": {"repository": "registry.example/Backups"}}, "`backup.repository`"),
        ({**GOOD, "backup": {**BACKUP, "level": 20}}, "`backup.level`"),
        ({**GOOD, "backup": {**BACKUP, "network": {"networks": ["registry"]}}}, "'registry' is not a CIDR block"),
    ],
)
def test_a_mistake_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(PlatformFault) as caught:
        build(options)
    assert caught.value.code == "runtime_misconfigured"
    assert said in caught.value.log_text


def test_options_become_what_the_adapter_wants() -> None:
    config = read_options(
        {
            **GOOD,
            "kubeconfig": "/etc/kube/config",
            "allowed": ["192.0.2.0/24"],
            "gateway": {"pods": {"app": "gateway"}, "networks": ["10.0.0.1/32"]},
            "backup": {**BACKUP, "credentials": "/etc/registry.json", "network": {"networks": ["10.0.0.2/32"]}},
        }
    )
    assert config == K8sConfig(
        image="registry.example/workspace:1",
        kubeconfig=Path("/etc/kube/config"),
        allowed=("192.0.2.0/24",),
        gateway=Peer(pods={"app": "gateway"}, networks=("10.0.0.1/32",)),
        backup=Backup(
            BACKUP["repository"],
            credentials=Path("/etc/registry.json"),
            network=Peer(networks=("10.0.0.2/32",)),
        ),
    )


def test_the_schema_is_about_the_same_options_with_the_same_defaults() -> None:
    compare(K8sConfig, SCHEMA["properties"])
    compare(Backup, SCHEMA["$defs"]["backup"]["properties"])


def compare(options: type[K8sConfig | Backup], properties: dict[str, Any]) -> None:
    fields = {field.name: field for field in dataclasses.fields(options) if field.name != "on_step"}
    assert properties.keys() == fields.keys()
    for name, told in properties.items():
        assert told["description"]
        if "default" in told and name != "image":
            default = fields[name].default
            assert told["default"] == (list(default) if isinstance(default, tuple) else default), name
