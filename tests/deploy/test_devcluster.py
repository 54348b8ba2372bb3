"""The dev cluster in the chart; where it is the one that Slipway runs in: what the accounts may do there, and where."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.access import Cluster, KubectlError
from tests.deploy.helm import DEV, EVERYTHING, LEAST, Helm, kinds, pods
from tests.deploy.installed import Installed, installation
from tests.deploy.rights import granted, used
from tests.support.waiting import eventually
from workspaces.runtime.k8s.devcluster.adapter import K8sDevCluster
from workspaces.runtime.k8s.devcluster.config import ContainerLimits, DevConfig, read_options

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

Json = dict[str, Any]


@pytest.mark.parametrize("values", [DEV, EVERYTHING])
def test_web_and_worker_know_the_dev_cluster(helm: Helm, values: Json) -> None:
    objects = helm.template(values)
    (settings,) = kinds(objects, "ConfigMap")
    config = read_options(yaml.safe_load(settings["data"]["dev-cluster.yaml"]))
    assert config.server == values["devCluster"]["options"]["server"]
    assert config.instance == yaml.safe_load(settings["data"]["workspaces.yaml"])["instance"]
    found = pods(objects)
    told = {name for name, pod in found.items() if "SLIPWAY_DEV_CLUSTER_OPTIONS" in json.dumps(pod)}
    assert told == {"web", "worker"}
    for name in told:
        (main,) = found[name]["spec"]["containers"]
        volumes = {volume["name"]: volume for volume in found[name]["spec"]["volumes"]}
        files = {"/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"}
        for mount in main["volumeMounts"]:
            part = volumes[mount["name"]]
            items = part.get("configMap", part.get("secret", {})).get("items", [])
            files |= {f"{mount['mountPath']}/{item['path']}" for item in items}
        (path,) = [one["value"] for one in main["env"] if one["name"] == "SLIPWAY_DEV_CLUSTER_OPTIONS"]
        needed = {path, *map(str, filter(None, (config.kubeconfig, config.certificate_authority)))}
        assert needed <= files


def test_rights_in_this_cluster_are_for_a_dev_cluster_that_is_this_one(helm: Helm) -> None:
    def found(values: Json) -> set[str]:
        return {one["metadata"]["name"] for one in kinds(helm.template(values), "ClusterRole", "ClusterRoleBinding")}

    assert found(DEV) - found(LEAST) == {"slipway-slipway-dev-web", "slipway-slipway-dev-worker"}
    assert found(EVERYTHING) == found(LEAST)


@dataclasses.dataclass
class Dev:
    """The dev cluster as an account of the chart's has it."""

    here: Installed
    config: DevConfig

    def adapter(self, account: str, **changes: Any) -> K8sDevCluster:
        path = self.here.cluster.kubeconfig_for_service_account(f"slipway-{account}", self.here.namespace)
        return K8sDevCluster(dataclasses.replace(self.config, kubeconfig=path, **changes))

    @property
    def namespace(self) -> str:
        """Of the workspace demo."""
        return f"{self.config.prefix}demo"

    def check(self, account: str) -> None:
        """The account has used every right that it has for this, and was refused none."""
        ours = [one for one in self.here.objects if one["metadata"]["name"].endswith(f"-dev-{account}")]
        has = granted(ours, f"slipway-{account}")
        done, refused = used(self.here.cluster.audit_log, self.here.user(account))
        assert not refused
        # Handing on rights is no request of its own.
        assert {right for right in has if right[0] not in {"bind", "escalate"}} == done


@pytest.fixture(params=["", "a ClusterRole"])
def dev(helm: Helm, control_plane: Cluster, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Dev]:
    tag = f"d{secrets.token_hex(3)}"
    options = {**DEV["devCluster"]["options"], "prefix": f"{tag}-"}
    if request.param:
        options["role"] = f"{tag}-developer"
        rules = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}]
        role = {"kind": "ClusterRole", "metadata": {"name": options["role"]}, "rules": rules}
        control_plane.apply({"apiVersion": "rbac.authorization.k8s.io/v1", **role})
    with installation(helm, control_plane, {"devCluster": {"options": options}}, tmp_path) as here:
        (settings,) = kinds(here.objects, "ConfigMap")
        given = yaml.safe_load(settings["data"]["dev-cluster.yaml"])
        config = read_options({**given, "certificate_authority": None})
        yield Dev(here, config)
    control_plane.kubectl(
        "delete", "namespace", "--selector", f"slipway.dev/dev-instance={config.instance}", "--wait=false"
    )
    if request.param:
        control_plane.kubectl("delete", "clusterrole", options["role"])


def test_web_lends_and_worker_ends_with_the_rights_that_they_have(dev: Dev) -> None:
    web, worker = dev.adapter("web"), dev.adapter("worker")
    assert web.issue_token("demo", 1).text
    # Under other settings what was there gives way.
    other = {"quota": {}, "limits": ContainerLimits(), "egress": "none", "role": dev.config.role}
    assert dev.adapter("web", **other).issue_token("demo", 2).text
    assert worker.namespaces() == ["demo"]
    assert [grant.run for grant in worker.grants()] == [2]
    worker.revoke("demo", through=2)
    assert worker.grants() == []
    worker.destroy("demo")
    dev.check("web")
    dev.check("worker")


def _refusal(dev: Dev, *arguments: str, document: Json | None = None) -> str:
    """What the API server says no with to web; empty when it would do it."""
    text = json.dumps(document) if document else None
    try:
        dev.here.kubectl("web", *arguments, "--dry-run=server", text=text)
    except KubectlError as error:
        return error.reason
    return ""


def test_it_reaches_no_further_than_its_own_namespaces(dev: Dev) -> None:
    """Though RBAC gives these rights everywhere."""
    dev.adapter("web").issue_token("demo", 1)
    elsewhere = ("--namespace", "default")
    eventually(
        lambda: "Slipway may write only" in _refusal(dev, "create", "serviceaccount", "probe", *elsewhere),
        every=0.2,
        what="policies are in force",
    )
    assert _refusal(dev, "create", "serviceaccount", "probe", "--namespace", dev.namespace) == ""
    raw = "/api/v1/namespaces/kube-system/serviceaccounts/default/token"
    document = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    with pytest.raises(KubectlError, match="only in namespaces of the dev cluster"):
        dev.here.kubectl("web", "create", "--raw", raw, "-f", "-", text=json.dumps(document))
    label = json.dumps({"metadata": {"labels": {"slipway.dev/dev-instance": dev.config.instance}}})
    assert "Slipway may make, change and delete only" in _refusal(dev, "patch", "namespace", "default", "-p", label)
    lax = json.dumps({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}})
    assert "Slipway may make, change and delete only" in _refusal(dev, "patch", "namespace", dev.namespace, "-p", lax)
    binding: Json = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "more", "namespace": dev.namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": dev.namespace}],
    }
    assert _refusal(dev, "create", "--filename", "-", document=binding)
