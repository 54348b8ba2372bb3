"""Where the platform's accounts may write, and what: the policies of the chart in a real cluster."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.access import KubectlError
from tests.deploy.helm import kinds
from tests.deploy.installed import BINDING, Installed
from tests.runtime.k8s.conftest import LIMITS, patiently
from tests.support.waiting import eventually
from workspaces.runtime.k8s.client import Cluster as Client
from workspaces.runtime.k8s.client import Refusal, Timeouts
from workspaces.runtime.k8s.manifests import pod as pods
from workspaces.runtime.k8s.manifests import walls
from workspaces.runtime.k8s.names import place
from workspaces.runtime.port import RunSpec

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

Json = dict[str, Any]


def _refusal(here: Installed, *arguments: str, document: Json | None = None, account: str = "worker") -> str:
    """What the API server says no with; empty when it would do it."""
    text = json.dumps(document) if document else None
    try:
        here.kubectl(account, *arguments, "--dry-run=server", text=text)
    except KubectlError as error:
        return error.reason
    return ""


def _changed(pod: Json, **spec: Any) -> Json:
    return {**pod, "spec": {**pod["spec"], **spec}}


# A role in one namespace needs no policy to keep out of others.
only_own = pytest.mark.parametrize("installed", ["own"], indirect=True)


@pytest.fixture
def walled(installed: Installed) -> Installed:
    """With a workspace and a namespace of somebody else's; the policies are in force."""
    command = ("create", "configmap", "probe", "--namespace", "default")
    eventually(
        lambda: "Slipway may write only" in _refusal(installed, *command), every=0.2, what="policies are in force"
    )
    return installed


@only_own
def test_the_platforms_accounts_write_in_workspaces_namespaces_alone(walled: Installed) -> None:
    worker = walled.runtime("worker")
    patiently(lambda: worker.ensure_volume("demo"))
    at = place(walled.config, "demo")
    pod = pods.pod(walled.config, at, RunSpec("demo", 1, {}, {}, LIMITS), "init")
    walled.cluster.apply(*walls.account(at))
    create = ("create", "--filename", "-")
    assert _refusal(walled, *create, document=pod) == ""
    for namespace in ("default", "kube-system", walled.namespace):
        elsewhere = _changed(
            {**pod, "metadata": {**pod["metadata"], "namespace": namespace}}, serviceAccountName="default"
        )
        assert "Slipway may write only in namespaces" in _refusal(walled, *create, document=elsewhere)


@only_own
def test_no_secret_of_others_can_be_read_or_removed(walled: Installed) -> None:
    walled.cluster.kubectl("create", "secret", "generic", "own", "--namespace", walled.namespace)
    worker = Client(walled.configured("worker").kubeconfig, Timeouts(3, 10))
    # A change that changes nothing would be answered with the whole Secret, and a deletion with what was deleted.
    tries: list[Callable[[], object]] = [
        lambda: worker.patch("Secret", walled.namespace, "own", {}),
        lambda: worker.delete_all("Secret", walled.namespace, labels=""),
    ]
    for attempt in tries:
        with pytest.raises(Refusal, match="Slipway may write only"):
            attempt()
    with pytest.raises(Refusal, match="cannot get resource"):
        worker.get("Secret", walled.namespace, "own")
    with pytest.raises(Refusal, match="cannot list resource"):
        worker.page("Secret")
    assert walled.cluster.get("secret", "own", walled.namespace)


NAMESPACES: list[tuple[Json, str]] = [
    ({"slipway.dev/instance": None}, "Slipway may make, change and delete only namespaces"),
    ({"slipway.dev/instance": "another"}, "Slipway may make, change and delete only namespaces"),
    ({"pod-security.kubernetes.io/enforce": "baseline"}, "Slipway may make, change and delete only namespaces"),
    ({"pod-security.kubernetes.io/enforce": None}, "Slipway may make, change and delete only namespaces"),
    ({"pod-security.kubernetes.io/enforce-version": "v1.0"}, "Slipway may make, change and delete only namespaces"),
    ({}, ""),
]


@only_own
@pytest.mark.parametrize(("labels", "words"), NAMESPACES)
def test_namespaces_are_made_and_kept_behind_the_walls(walled: Installed, labels: Json, words: str) -> None:
    right = walls.namespace(place(walled.config, "demo"))
    kept = {key: value for key, value in {**right["metadata"]["labels"], **labels}.items() if value is not None}
    wrong = {**right, "metadata": {**right["metadata"], "labels": kept}}
    assert words in _refusal(walled, "create", "--filename", "-", document=wrong)
    walled.cluster.apply(right)
    patch = json.dumps({"metadata": {"labels": labels}})
    said = _refusal(walled, "patch", "namespace", right["metadata"]["name"], "--patch", patch)
    assert words in said
    assert bool(said) is bool(words)


@only_own
def test_namespaces_of_others_are_neither_taken_over_nor_deleted(walled: Installed) -> None:
    labels = walls.namespace(place(walled.config, "demo"))["metadata"]["labels"]
    words = "Slipway may make, change and delete only namespaces"
    patch = json.dumps({"metadata": {"labels": labels}})
    assert words in _refusal(walled, "patch", "namespace", walled.namespace, "--patch", patch)
    assert words in _refusal(walled, "delete", "namespace", walled.namespace)


@only_own
def test_pods_stand_behind_the_walls(walled: Installed) -> None:
    """With Pod Security out of the way, so that the policy itself is seen to refuse."""
    at = place(walled.config, "demo")
    walled.cluster.apply(walls.namespace(at), *walls.account(at))
    walled.cluster.kubectl("label", "namespace", at.namespace, "pod-security.kubernetes.io/enforce-")
    (name,) = [
        one["metadata"]["name"]
        for one in kinds(walled.objects, BINDING)
        if one["spec"]["policyName"].endswith("-place")
    ]
    walled.cluster.kubectl("delete", BINDING, name)
    pod = pods.pod(walled.config, at, RunSpec("demo", 1, {}, {}, LIMITS), "init")
    (container,) = pod["spec"]["containers"]
    root = {**container, "securityContext": {**container["securityContext"], "allowPrivilegeEscalation": True}}
    wrong = {
        "host's network": _changed(pod, hostNetwork=True),
        "host's processes": _changed(pod, hostPID=True),
        "host's files": _changed(pod, volumes=[*pod["spec"]["volumes"], {"name": "h", "hostPath": {"path": "/"}}]),
        "escalation": _changed(pod, containers=[root]),
        "no limits": _changed(pod, containers=[{**container, "resources": {}}]),
        "init without limits": _changed(pod, initContainers=[{**container, "name": "i", "resources": {}}]),
        "a token": _changed(pod, automountServiceAccountToken=True),
    }
    create = ("create", "--filename", "-")
    eventually(
        lambda: not _refusal(walled, *create, document=pod), every=0.2, what="only the other policies are in force"
    )
    for name, one in wrong.items():
        assert "Slipway's workspaces" in _refusal(walled, *create, document=one), name


@only_own
def test_rights_are_not_handed_on(walled: Installed) -> None:
    at = place(walled.config, "demo")
    patiently(lambda: walled.runtime("worker").ensure_volume("demo"))
    account, role, binding = walls.account(at)
    walled.cluster.apply(account, role)
    create = ("create", "--filename", "-")
    assert _refusal(walled, *create, document=binding) == ""
    everybody = {**binding, "subjects": [{"kind": "Group", "name": "system:authenticated"}]}
    assert "Slipway may bind only" in _refusal(walled, *create, document=everybody)
    admin = {**binding, "roleRef": {**binding["roleRef"], "kind": "ClusterRole", "name": "cluster-admin"}}
    assert _refusal(walled, *create, document=admin)
    # RBAC's own rule: nobody gives what they do not have.
    more = {**role, "metadata": {**role["metadata"], "name": "more"}}
    more["rules"] = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]
    assert "attempting to grant RBAC permissions not currently held" in _refusal(walled, *create, document=more)
