"""Namespaces and tokens on a real API server, used by real kubectl."""

from __future__ import annotations

import json
import re
import secrets
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from kernel.errors import ClusterFault, Failure, PlatformFault
from tests.cluster.access import KubectlError
from tests.devcluster.conftest import DevStage, patiently
from tests.support.waiting import eventually
from workspaces.runtime.devcluster import Grant

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
DOCS = Path(__file__).resolve().parents[2] / "docs" / "dev-cluster.md"


def configmap(name: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})


def pod(name: str, **spec: Any) -> str:
    container = {"name": "c", "image": "local.test/pause:1"}
    body = {"containers": [container], **spec}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body})


def issue(dev: DevStage, name: str = "demo", run: int = 1, **changes: Any) -> str:
    return patiently(lambda: dev.adapter(**changes).issue_token(name, run)).text


def test_a_developer_works_in_the_own_namespace(dev: DevStage) -> None:
    token = issue(dev)
    assert dev.kubectl(token, "create", "--filename", "-", text=configmap("mine")) == "configmap/mine created\n"
    dev.kubectl(token, "create", "--filename", "-", text=pod("web"))
    dev.kubectl(token, "create", "deployment", "app", "--image", "local.test/pause:1", "--replicas", "2")
    dev.kubectl(token, "scale", "deployment", "app", "--replicas", "1")
    dev.kubectl(token, "create", "secret", "generic", "key", "--from-literal", "a=b")
    assert "mine" in dev.kubectl(token, "get", "configmaps,pods,deployments,secrets,events,resourcequotas,limitranges")
    assert dev.namespace() in dev.kubectl(token, "get", "namespace", dev.namespace())
    dev.kubectl(token, "delete", "pods,deployments,secrets", "--all", "--wait=false")


def test_a_developer_works_nowhere_else(dev: DevStage) -> None:
    token, other = issue(dev), issue(dev, "other")
    for target in (
        ("--namespace", dev.namespace("other"), "get", "configmaps"),
        ("--namespace", dev.namespace("other"), "get", "namespace", dev.namespace("other")),
        ("--namespace", "kube-system", "get", "secrets"),
        ("--namespace", "default", "get", "pods"),
        ("get", "nodes"),
        ("get", "namespaces"),
        ("get", "secrets", "--all-namespaces"),
        ("get", "clusterroles"),
        ("create", "namespace", f"{dev.options['prefix']}more"),
        ("--namespace", dev.namespace("other"), "create", "configmap", "x"),
    ):
        assert "forbidden" in dev.refusal(token, *target).lower(), target
    assert dev.kubectl(other, "get", "configmaps", "--namespace", dev.namespace("other")) != ""


def test_the_walls_are_not_the_developers_to_lift(dev: DevStage) -> None:
    token = issue(dev)
    for target in (
        ("delete", "resourcequota", "slipway"),
        ("delete", "limitrange", "slipway"),
        ("delete", "networkpolicy", "slipway-closed"),
        ("delete", "rolebinding", "slipway-run-1"),
        ("create", "serviceaccount", "mine"),
        ("create", "token", "slipway-run-1"),
        ("create", "rolebinding", "mine", "--clusterrole", "cluster-admin", "--user", "me"),
        ("create", "role", "mine", "--verb", "get", "--resource", "nodes"),
        ("create", "ingress", "mine", "--rule", "slipway.example.com/*=web:80"),
        ("label", "namespace", dev.namespace(), "pod-security.kubernetes.io/enforce=privileged", "--overwrite"),
        ("get", "pods", "--as", "system:admin"),
    ):
        assert "forbidden" in dev.refusal(token, *target).lower(), target
    assert "hostPath" in dev.refusal(
        token, "create", "-f", "-", text=pod("host", volumes=[{"name": "h", "hostPath": {"path": "/"}}])
    )
    assert "hostNetwork" in dev.refusal(token, "create", "-f", "-", text=pod("net", hostNetwork=True))


def test_quota_and_limits_hold(dev: DevStage) -> None:
    token = issue(dev, quota={"pods": 1, "services.loadbalancers": 0}, limits={"max": {"memory": "1Gi"}})
    # A quota is enforced once the cluster's controller has counted for the first time.
    eventually(lambda: "0/1" in dev.kubectl(token, "get", "resourcequota", "slipway"), every=0.2)
    dev.kubectl(token, "create", "--filename", "-", text=pod("one"))
    assert "exceeded quota: slipway" in dev.refusal(token, "create", "--filename", "-", text=pod("two"))
    assert "exceeded quota" in dev.refusal(token, "create", "service", "loadbalancer", "lb", "--tcp", "80")
    dev.kubectl(token, "delete", "pod", "one", "--force")
    greedy = {"name": "c", "image": "i", "resources": {"limits": {"memory": "2Gi"}}}
    said = dev.refusal(token, "create", "--filename", "-", text=pod("greedy", containers=[greedy]))
    assert "maximum memory usage per Container is 1Gi" in said


def test_what_stands_around_a_namespace(dev: DevStage) -> None:
    issue(dev)
    assert set(dev.names("networkpolicies")) == {
        f"slipway-{suffix}" for suffix in ("closed", "inside", "names", "egress")
    }
    labels = dev.cluster.get("namespace", dev.namespace())["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "baseline"
    assert dev.cluster.get("serviceaccount", "slipway-run-1", dev.namespace())["automountServiceAccountToken"] is False


def test_a_token_is_good_for_as_long_as_was_asked_for(dev: DevStage) -> None:
    token = patiently(lambda: dev.adapter(token_seconds=600).issue_token("demo", 1))
    assert token.seconds == 600
    assert "token" not in repr(token).lower().replace("token(", "")
    said = json.loads(dev.kubectl(token.text, "auth", "whoami", "--output", "json"))["status"]["userInfo"]
    assert said["username"] == f"system:serviceaccount:{dev.namespace()}:slipway-run-1"


def test_a_token_is_refused_after_its_end(dev: DevStage) -> None:
    token = issue(dev)
    dev.kubectl(token, "get", "pods")
    dev.adapter().revoke("demo", through=1)
    # Without rights at once; refused altogether when the server forgets that it knew the token.
    eventually(lambda: "forbidden" in dev.refusal(token, "get", "pods").lower(), timeout=5, every=0.05)
    eventually(lambda: "must be logged in" in dev.refusal(token, "get", "pods"), timeout=30, every=0.5)
    dev.adapter().revoke("demo", through=1)
    dev.adapter().revoke("never-there", through=9)


@pytest.mark.parametrize("role", ["edit", None])
def test_tokens_that_the_developer_made_end_as_well(dev: DevStage, role: str | None) -> None:
    """Whoever may write Secrets can have a token without an end; its account's end is its own."""
    changes: dict[str, Any] = {"role": role} if role else {}
    token = issue(dev, **changes)
    annotation = {"kubernetes.io/service-account.name": "slipway-run-1"}
    meta = {"name": "lasting", "annotations": annotation}
    lasting = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "kubernetes.io/service-account-token"}
    dev.kubectl(token, "create", "--filename", "-", text=json.dumps(lasting))
    read = ("get", "secret", "lasting", "--output", "go-template={{with .data.token}}{{base64decode .}}{{end}}")
    stolen = eventually(lambda: dev.kubectl(token, *read), every=0.2)
    dev.kubectl(stolen, "get", "pods")
    dev.adapter(**changes).revoke("demo", through=1)
    eventually(lambda: "forbidden" in dev.refusal(stolen, "get", "pods").lower(), timeout=5, every=0.05)
    eventually(lambda: "must be logged in" in dev.refusal(stolen, "get", "pods"), timeout=30, every=0.5)
    # What a new run is given does not bring the old one's back.
    issue(dev, run=2, **changes)
    assert "must be logged in" in dev.refusal(stolen, "get", "pods")


def test_runs_are_apart_and_a_late_end_does_no_harm(dev: DevStage) -> None:
    first, second = issue(dev, run=1), issue(dev, run=2)
    # The new run has put an end to the old one, whose own end was never heard of.
    eventually(lambda: "must be logged in" in dev.refusal(first, "get", "pods"), timeout=30, every=0.2)
    dev.adapter().revoke("demo", through=1)
    dev.kubectl(second, "create", "configmap", "still-here")
    assert dev.adapter().grants() == [Grant("demo", 2)]


def test_another_installation_and_other_workspaces_are_left_alone(dev: DevStage) -> None:
    issue(dev)
    other = secrets.token_hex(4)
    dev.adapter(instance=f"i{other}").revoke("demo", through=9)
    dev.adapter(instance=f"i{other}").destroy("demo")
    with pytest.raises(PlatformFault) as caught:
        dev.adapter(instance=f"i{other}").issue_token("demo", 1)
    assert caught.value.code == "dev_namespace_taken"
    dev.adapter().revoke("other", through=9)
    assert dev.names("serviceaccounts") == ["default", "slipway-run-1"]
    assert dev.adapter().namespaces() == ["demo"]


def test_a_namespace_that_is_not_ours(dev: DevStage) -> None:
    dev.cluster.kubectl("create", "namespace", dev.namespace("foreign"))
    try:
        with pytest.raises(PlatformFault) as caught:
            dev.adapter().issue_token("foreign", 1)
        assert caught.value.code == "dev_namespace_taken"
        dev.adapter().destroy("foreign")
        dev.adapter().revoke("foreign", through=9)
        found = dev.cluster.get("namespace", dev.namespace("foreign"))["metadata"]
        assert "deletionTimestamp" not in found
        assert dev.names("rolebindings,networkpolicies,resourcequotas", "foreign") == []
    finally:
        dev.cluster.kubectl("delete", "namespace", dev.namespace("foreign"), "--wait=false")


def test_a_namespace_that_was_deleted_by_hand_is_made_again(dev: DevStage) -> None:
    token = issue(dev)
    dev.kubectl(token, "create", "configmap", "mine")
    dev.cluster.kubectl("delete", "namespace", dev.namespace(), "--wait=false")
    again = issue(dev)
    assert "mine" not in dev.kubectl(again, "get", "configmaps")
    assert "slipway-closed" in dev.names("networkpolicies")


def test_the_end_of_a_workspace_takes_the_namespace_along(dev: DevStage) -> None:
    issue(dev)
    dev.adapter().destroy("demo")
    dev.adapter().destroy("demo")
    eventually(lambda: not dev.cluster.get("namespace", dev.namespace()), timeout=60, every=0.2)
    dev.adapter().destroy("demo")
    assert not dev.adapter().namespaces()
    assert not dev.adapter().grants()


def test_many_at_once(dev: DevStage) -> None:
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda _: issue(dev), range(8)))
    for token in tokens[:2]:
        dev.kubectl(token, "get", "pods")


def test_settings_that_changed_reach_a_namespace(dev: DevStage) -> None:
    issue(dev)
    token = issue(dev, role="view", egress="none", quota={}, limits={})
    assert "slipway-egress" not in dev.names("networkpolicies")
    assert dev.names("resourcequotas,limitranges") == []
    dev.kubectl(token, "get", "pods")
    assert "forbidden" in dev.refusal(token, "create", "configmap", "x").lower()
    again = issue(dev)
    dev.kubectl(again, "create", "configmap", "x")


def test_what_developers_label_is_nobody_elses_grant(dev: DevStage) -> None:
    token = issue(dev, role="edit")
    issue(dev, "other")
    mine = {
        "slipway.dev/dev-instance": dev.options["instance"],
        "slipway.dev/dev-workspace": "other",
        "slipway.dev/dev-run": "7",
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "x", "labels": mine}}
    dev.kubectl(token, "create", "--filename", "-", text=json.dumps(account))
    assert dev.adapter().grants() == [Grant("demo", 1), Grant("other", 1)]


def documented() -> list[dict[str, Any]]:
    blocks = re.findall(r"```yaml\n(apiVersion.*?)```", DOCS.read_text(), re.DOTALL)
    return [yaml.safe_load(block) for block in blocks]


@pytest.fixture
def modest(dev: DevStage) -> Iterator[Any]:
    """An adapter whose account has the rights of the docs, and no others: those of both pages, or the first alone."""
    tag = str(dev.options["instance"])
    made: list[tuple[str, str]] = []

    def build(pages: int) -> dict[str, Any]:
        for number, role in enumerate(documented()[:pages]):
            name = f"{tag}-{number}"
            named = {**role, "metadata": {"name": name}}
            reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
            subject = {"kind": "User", "name": f"{tag}-slipway", "apiGroup": "rbac.authorization.k8s.io"}
            binding = {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": name},
                "roleRef": reference,
                "subjects": [subject],
            }
            dev.cluster.apply(named, binding)
            made.extend([("clusterrole", name), ("clusterrolebinding", name)])
        return {"kubeconfig": str(dev.cluster.kubeconfig_for(f"{tag}-slipway"))}

    yield build
    for kind, name in made:
        dev.cluster.kubectl("delete", kind, name)


def lifecycle(dev: DevStage, **changes: Any) -> str:
    adapter = dev.adapter(**changes)
    token = patiently(lambda: adapter.issue_token("demo", 1)).text
    dev.kubectl(token, "get", "pods")
    adapter.issue_token("demo", 1)
    adapter.issue_token("demo", 2)
    assert adapter.grants() == [Grant("demo", 2)]
    assert adapter.namespaces() == ["demo"]
    adapter.revoke("demo", through=2)
    adapter.destroy("demo")
    return token


def test_the_documented_rights_are_enough(dev: DevStage, modest: Any) -> None:
    lifecycle(dev, **modest(2))


def test_the_documented_rights_are_enough_for_a_clusterrole(dev: DevStage, modest: Any) -> None:
    changes = modest(1)
    role = "slipway-developer"
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}
    meta = {"name": role}
    dev.cluster.apply(
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": meta, "rules": [rule]}
    )
    try:
        lifecycle(dev, role=role, **changes)
        with pytest.raises(ClusterFault) as caught:
            patiently(lambda: dev.adapter(role="edit", **changes).issue_token("other", 1))
        assert (caught.value.code, caught.value.temporary) == ("dev_cluster_refused", False)
    finally:
        dev.cluster.kubectl("delete", "clusterrole", role)


def test_an_account_without_rights_says_so(dev: DevStage) -> None:
    kubeconfig = str(dev.cluster.kubeconfig_for("nobody-at-all"))
    with pytest.raises(Failure) as caught:
        dev.adapter(kubeconfig=kubeconfig).issue_token("demo", 1)
    assert caught.value.code == "dev_cluster_refused"
    assert "forbidden" in caught.value.log_text


def test_a_cluster_that_is_away(dev: DevStage, tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        config = json.loads(dev.cluster.kubectl("config", "view", "--raw", "--output", "json"))
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{held.getsockname()[1]}"
        path = tmp_path / "away.kubeconfig"
        path.write_text(json.dumps(config))
        adapter = dev.adapter(kubeconfig=str(path))
        for act in (
            lambda: adapter.issue_token("demo", 1),
            lambda: adapter.revoke("demo", through=1),
            lambda: adapter.destroy("demo"),
            lambda: adapter.grants(),
            lambda: adapter.namespaces(),
        ):
            with pytest.raises(ClusterFault) as caught:
                act()
            assert (caught.value.code, caught.value.temporary) == ("dev_cluster_away", True)


def test_kubectl_says_why_it_refuses(dev: DevStage) -> None:
    """The harness itself: a refusal is no success in disguise."""
    with pytest.raises(KubectlError):
        dev.kubectl("not-a-token", "get", "pods")
