"""The platform's accounts in a real cluster: they can do all that they have to, and nothing else anywhere."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.access import Cluster, KubectlError
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubelet import node_with_logs
from tests.deploy.helm import LEAST, Helm, kinds
from tests.deploy.rights import Right, granted, used
from tests.runtime.k8s.conftest import LIMITS, patiently
from tests.support.waiting import eventually
from workspaces.runtime.k8s import K8sConfig, K8sRuntime
from workspaces.runtime.k8s.client import Cluster as Client
from workspaces.runtime.k8s.client import Refusal, Timeouts
from workspaces.runtime.k8s.config import read_options
from workspaces.runtime.k8s.manifests import pod as pods
from workspaces.runtime.k8s.manifests import walls
from workspaces.runtime.k8s.names import place
from workspaces.runtime.k8s.operations import K8sOperations
from workspaces.runtime.port import Presence, RunSpec

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

Json = dict[str, Any]
_BINDING = "ValidatingAdmissionPolicyBinding"
OURS = (
    "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "PriorityClass",
    "ValidatingAdmissionPolicy", _BINDING,
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

    def check(self, account: str) -> None:
        """The account has used every right that it has, and was refused none."""
        done, refused = used(self.cluster.audit_log, self.user(account))
        has = granted(self.objects, f"slipway-{account}")
        assert not refused, f"{account} lacks rights"
        assert _words(has - done) == [], f"{account} has rights that it does not use"
        assert _words(done - has) == []


def _words(rights: set[Right]) -> list[str]:
    return sorted(f"{verb} {group or 'core'}/{resource}" for verb, group, resource in rights)


@pytest.fixture(params=["own", "shared"])
def installed(
    helm: Helm, control_plane: Cluster, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Installed]:
    if not isinstance(control_plane, ControlPlane):
        pytest.skip("what was asked of the cluster of SLIPWAY_TEST_KUBECONFIG is not written down for us")
    tag = f"t{secrets.token_hex(4)}"
    layout = {"layout": "shared", "namespace": f"{tag}-all"} if request.param == "shared" else {}
    workspaces = {**LEAST["workspaces"], **layout, "prefix": f"{tag}-", "keep_logs": 1}
    values = {**LEAST, "workspaces": workspaces, "workspacePullSecret": "registry"}
    objects = helm.template(values, namespace=tag)
    for name in {tag, layout.get("namespace", tag)}:
        control_plane.kubectl("create", "namespace", name)
    ours = kinds(objects, *OURS)
    control_plane.apply(*ours)
    (settings,) = kinds(objects, "ConfigMap")
    credentials = tmp_path / "config.json"
    credentials.write_text(json.dumps({"auths": {"registry.example.com": {"auth": "dTpw"}}}), encoding="utf-8")
    config = read_options(yaml.safe_load(settings["data"]["workspaces.yaml"]))
    found = Installed(control_plane, objects, tag, dataclasses.replace(config, pull_credentials=credentials))
    yield found
    control_plane.kubectl(
        "delete", "namespace", "--selector", f"slipway.dev/instance={config.instance}", "--wait=false"
    )
    everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": ours})
    control_plane.kubectl("delete", "--filename", "-", "--wait=false", "--ignore-not-found", text=everything)
    for name in {tag, layout.get("namespace", tag)}:
        control_plane.kubectl("delete", "namespace", name, "--wait=false")


class Life:
    """A workspace's runs on a node that answers for what they wrote."""

    def __init__(self, here: Installed, node: str, name: str) -> None:
        self.here = here
        self.name = name
        self.at = place(here.config, name)
        self._node = node

    def begin(self, run: int, **changes: Any) -> None:
        """A run, by the worker, on the node."""
        worker = self.here.runtime("worker", **changes)
        patiently(lambda: worker.ensure_volume(self.name))
        patiently(lambda: worker.ensure_run(RunSpec(self.name, run, {}, {"run_token": "s3cret"}, LIMITS)))
        assert worker.observe(self.name).presence is not Presence.UNKNOWN
        target = {"apiVersion": "v1", "kind": "Node", "name": self._node}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": self.at.name}, "target": target}
        path = f"/api/v1/namespaces/{self.at.namespace}/pods/{self.at.name}/binding"
        self.here.cluster.kubectl("create", "--raw", path, "-f", "-", text=json.dumps(binding))

    def end(self, stop: Callable[[], object]) -> None:
        """Ask for the end, and do what the kubelet does then."""
        stop()
        where = ("--namespace", self.at.namespace, "--grace-period", "0", "--force")
        self.here.cluster.kubectl("delete", "pod", self.at.name, *where)


@pytest.fixture
def life(installed: Installed) -> Iterator[Callable[[str], Life]]:
    with node_with_logs(installed.cluster) as node:
        yield lambda name: Life(installed, node, name)


def test_worker_and_web_have_the_rights_that_they_use(installed: Installed, life: Callable[[str], Life]) -> None:
    demo, worker, web = life("demo"), installed.runtime("worker"), installed.runtime("web")
    for run in (1, 2):
        # The second run finds its volume too small for what is configured by then.
        demo.begin(run, volume_bytes=installed.config.volume_bytes * run)
        assert b"hello" in web.logs("demo")
        assert [entry.name for entry in worker.list()] == ["demo"]
        demo.end(lambda: worker.stop("demo", grace=1))
        worker.destroy_run("demo")
        assert b"hello" in web.logs("demo")
    assert b"hello" in worker.logs("demo")
    patiently(lambda: worker.destroy_volume("demo"))
    installed.check("worker")
    installed.check("web")


class Deaf:
    """Who is told and does nothing."""

    def changed(self, name: str) -> None:
        pass

    def heard(self, kind: str, age: float) -> None:
        pass

    def listed(self, kind: str, reason: str, count: int) -> None:
        pass


def test_the_operator_has_the_rights_that_it_uses(installed: Installed, life: Callable[[str], Life]) -> None:
    config = installed.configured("operator")
    operations = K8sOperations(config, K8sRuntime(config), "me", Deaf())
    operations.start()
    with contextlib.ExitStack() as stack:
        stack.callback(operations.stop)
        eventually(lambda: all(watch.synced for watch in operations.watches()), what="all watches are synced")
        assert operations.hold()
        assert operations.hold()
        demo = life("demo")
        for run in (1, 2):
            demo.begin(run)
            assert [found.name for found in operations.survey()] == ["demo"]
            operations.mark("demo", 5)
            demo.end(lambda: operations.clear("demo"))
            patiently(lambda: operations.clear("demo"))
        installed.cluster.kubectl("delete", "pvc", demo.at.name, "--namespace", demo.at.namespace)
        patiently(lambda: operations.clear("demo"))
        operations.release()
    installed.check("operator")


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
        for one in kinds(walled.objects, _BINDING)
        if one["spec"]["policyName"].endswith("-place")
    ]
    walled.cluster.kubectl("delete", _BINDING, name)
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
