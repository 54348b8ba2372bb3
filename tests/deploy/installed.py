"""The chart's accounts, rights and policies in a real cluster, for the tests that look at what they allow."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.access import Cluster
from tests.cluster.control_plane import ControlPlane
from tests.deploy.helm import LEAST, Helm, kinds
from tests.deploy.rights import Right, granted, used
from tests.runtime.k8s.test_snapshots import KIND, NAME
from workspaces.runtime.k8s import K8sConfig, K8sRuntime
from workspaces.runtime.k8s.config import read_options

Json = dict[str, Any]
BINDING = "ValidatingAdmissionPolicyBinding"
OURS = (
    "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "PriorityClass",
    "ValidatingAdmissionPolicy", BINDING,
)  # fmt: skip


@dataclasses.dataclass
class Installed:
    """The chart's accounts, rights and policies in a cluster, and the runtime as each account has it."""

    cluster: ControlPlane
    objects: list[Json]
    namespace: str
    config: K8sConfig

    def user(self, account: str) -> str:
        return f"system:serviceaccount:{self.namespace}:slipway-{account}"

    def configured(self, account: str, **changes: Any) -> K8sConfig:
        path = self.cluster.kubeconfig_for_service_account(f"slipway-{account}", self.namespace)
        return dataclasses.replace(self.config, kubeconfig=path, **changes)

    def runtime(self, account: str, **changes: Any) -> K8sRuntime:
        return K8sRuntime(self.configured(account, **changes))

    def kubectl(self, account: str, *arguments: str, text: str | None = None) -> str:
        path = self.cluster.kubeconfig_for_service_account(f"slipway-{account}", self.namespace)
        return self.cluster.kubectl(*arguments, text=text, kubeconfig=path)

    def has_used(self, account: str, verb: str, resource: str) -> bool:
        return (verb, "", resource) in used(self.cluster.audit_log, self.user(account))[0]

    def check(self, account: str) -> None:
        """The account has used every right that it has, and was refused none that it has to have."""
        done, refused = used(self.cluster.audit_log, self.user(account))
        has = granted(self.objects, f"slipway-{account}")
        if self.config.layout == "shared":
            # Where rights are for one namespace nobody can look at nodes, and does without.
            refused -= {("list", "", "nodes")}
        assert not refused, f"{account} lacks rights"
        assert _words(has - done) == [], f"{account} has rights that it does not use"
        assert _words(done - has) == []


def _words(rights: set[Right]) -> list[str]:
    return sorted(f"{verb} {group or 'core'}/{resource}" for verb, group, resource in rights)


COPIES: Json = {
    "ide_image": "registry.example.com/ide:1",
    "snapshot_class": "fast",
    "backup": {"repository": "registry.example.com/copies"},
}
"""What takes further rights of the cluster."""


@pytest.fixture(params=["own", "shared", "own with copies", "shared with copies"])
def installed(
    helm: Helm, control_plane: Cluster, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Installed]:
    layout, _, more = request.param.partition(" ")
    if more:
        request.getfixturevalue("snapshots")
    values = {"workspaces": COPIES, "backup": {"existingSecret": "copies"}} if more else {}
    with installation(helm, control_plane, values, tmp_path, layout=layout) as found:
        yield found


@contextmanager
def installation(
    helm: Helm, control_plane: Cluster, more: Json, folder: Path, *, layout: str = "own"
) -> Iterator[Installed]:
    """The chart in a namespace of its own.

    Args:
        more: values beside the least ones.
        folder: for a file.
    """
    if not isinstance(control_plane, ControlPlane):
        pytest.skip("what was asked of the cluster of SLIPWAY_TEST_KUBECONFIG is not written down for us")
    tag = f"t{secrets.token_hex(4)}"
    where = {"layout": "shared", "namespace": f"{tag}-all"} if layout == "shared" else {}
    workspaces = {**LEAST["workspaces"], **more.get("workspaces", {}), **where, "prefix": f"{tag}-", "keep_logs": 1}
    values = {**LEAST, **more, "workspaces": workspaces, "workspacePullSecret": "registry"}
    objects = helm.template(values, namespace=tag)
    for name in {tag, where.get("namespace", tag)}:
        control_plane.kubectl("create", "namespace", name)
    ours = kinds(objects, *OURS)
    control_plane.apply(*ours)
    (settings,) = kinds(objects, "ConfigMap")
    credentials = folder / "config.json"
    credentials.write_text(json.dumps({"auths": {"registry.example.com": {"auth": "dTpw"}}}), encoding="utf-8")
    config = read_options(yaml.safe_load(settings["data"]["workspaces.yaml"]))
    backup = config.backup and dataclasses.replace(config.backup, credentials=credentials)
    config = dataclasses.replace(config, pull_credentials=credentials, backup=backup)
    found = Installed(control_plane, objects, tag, config)
    yield found
    control_plane.kubectl(
        "delete", "namespace", "--selector", f"slipway.dev/instance={config.instance}", "--wait=false"
    )
    everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": ours})
    control_plane.kubectl("delete", "--filename", "-", "--wait=false", "--ignore-not-found", text=everything)
    for name in {tag, where.get("namespace", tag)}:
        control_plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def snapshots(control_plane: Cluster) -> Iterator[None]:
    """The cluster knows copies by the storage."""
    control_plane.apply(KIND)
    control_plane.kubectl("wait", "--for=condition=Established", f"crd/{NAME}", "--timeout=30s")
    yield
    control_plane.kubectl("delete", "crd", NAME, "--wait=true")
