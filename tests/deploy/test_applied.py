"""The chart on a real API server: everything is accepted, without a warning, under Pod Security `restricted`."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster import programs
from tests.cluster.access import Cluster
from tests.deploy.generated import CHART
from tests.deploy.helm import SHARED, TRIAL, VALUES, Helm, HelmError, kinds, pod_of
from tests.support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

Json = dict[str, Any]
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


@pytest.fixture(scope="module")
def resources(control_plane: Cluster) -> Iterator[None]:
    """The kinds that clusters have where somebody installed them."""
    where = ("--filename", str(programs.path(programs.RESOURCES)))
    control_plane.kubectl("apply", "--server-side", *where)
    names = ("crd/httproutes.gateway.networking.k8s.io", "crd/servicemonitors.monitoring.coreos.com")
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)
    yield
    control_plane.kubectl("delete", "--wait=false", *where)


@pytest.fixture
def space(control_plane: Cluster) -> Iterator[Callable[..., str]]:
    """Makes namespaces under `restricted`."""
    made = []

    def make(suffix: str = "") -> str:
        name = f"t{secrets.token_hex(4)}{suffix}"
        meta = {"name": name, "labels": RESTRICTED}
        control_plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        made.append(name)
        return name

    yield make
    for name in made:
        control_plane.kubectl("delete", "namespace", name, "--wait=false")


def _in(values: Json, namespace: str) -> Json:
    """Values whose workspaces have names of their own, and a namespace that is there."""
    workspaces = {**values["workspaces"], "prefix": f"{namespace[:9]}-"}
    if values is SHARED:
        workspaces["namespace"] = namespace
    return {**values, "workspaces": workspaces}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
@pytest.mark.usefixtures("resources")
def test_everything_is_accepted_without_a_warning(
    helm: Helm, control_plane: Cluster, space: Callable[..., str], values: Json
) -> None:
    namespace = space()
    objects = helm.template(_in(values, space("-all")), namespace=namespace)
    everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    apply = ("apply", "--server-side", "--warnings-as-errors", "--filename", "-")
    control_plane.kubectl(*apply, text=everything)
    try:
        # Quota, policies and Pod Security look at pods only when controllers make them.
        waited = {one["metadata"]["name"] for one in objects if pod_of(one) and one["kind"] != "Pod"}
        eventually(lambda: _made(control_plane, namespace) >= waited, timeout=60, every=0.5, what=f"pods of {waited}")
    finally:
        whole = [one for one in objects if "namespace" not in one["metadata"]]
        if whole:
            text = json.dumps({"apiVersion": "v1", "kind": "List", "items": whole})
            control_plane.kubectl("delete", "--wait=false", "--filename", "-", text=text)


def _made(control_plane: Cluster, namespace: str) -> set[str]:
    """The workloads of which pods were made."""
    text = control_plane.kubectl("get", "pods", "--namespace", namespace, "--output", "json")
    owners = [owner for pod in json.loads(text)["items"] for owner in pod["metadata"].get("ownerReferences", [])]
    return {owner["name"].rpartition("-")[0] if owner["kind"] == "ReplicaSet" else owner["name"] for owner in owners}


def _secrets(control_plane: Cluster, namespace: str) -> dict[str, Json]:
    names = ("slipway-secrets", "slipway-trial")
    return {name: control_plane.get("secret", name, namespace).get("data", {}) for name in names}


def test_what_is_secret_is_made_once_and_outlives_the_release(
    helm: Helm, control_plane: Cluster, space: Callable[..., str]
) -> None:
    namespace = space()
    values = _in(TRIAL, namespace)
    there = ("--namespace", namespace)

    def install(**changes: Any) -> None:
        helm.run(
            *("upgrade", "--install", "slipway", str(CHART), *there),
            values={**values, **changes},
            kubeconfig=control_plane.kubeconfig,
        )

    install()
    first = _secrets(control_plane, namespace)
    assert all(first.values())
    jobs = {one["metadata"]["name"] for one in _jobs(control_plane, namespace)}
    install(web={"replicas": 3})
    assert _secrets(control_plane, namespace) == first
    # The second release's job is another one, and the first one's is gone.
    (job,) = _jobs(control_plane, namespace)
    assert job["metadata"]["name"] not in jobs
    helm.run("rollback", "slipway", "1", *there, kubeconfig=control_plane.kubeconfig)
    assert _secrets(control_plane, namespace) == first
    helm.run("uninstall", "slipway", *there, kubeconfig=control_plane.kubeconfig)
    assert _secrets(control_plane, namespace) == first
    install()
    assert _secrets(control_plane, namespace) == first
    helm.run("uninstall", "slipway", *there, kubeconfig=control_plane.kubeconfig)


def _jobs(control_plane: Cluster, namespace: str) -> list[Json]:
    text = control_plane.kubectl("get", "jobs", "--namespace", namespace, "--output", "json")
    return [one for one in json.loads(text)["items"] if "deletionTimestamp" not in one["metadata"]]


def test_who_has_rights_in_two_namespaces_only_can_install_it(
    helm: Helm, control_plane: Cluster, space: Callable[..., str]
) -> None:
    namespace, shared = space(), space("-all")
    admin = f"admin-{namespace}"
    for one in (namespace, shared):
        control_plane.kubectl("create", "rolebinding", "admin", "--clusterrole=admin", f"--user={admin}", "-n", one)
    kubeconfig = control_plane.kubeconfig_for(admin)
    install = ("install", "slipway", str(CHART), "--namespace", namespace)
    helm.run(*install, values=_in(SHARED, shared), kubeconfig=kubeconfig)
    helm.run("uninstall", "slipway", "--namespace", namespace, kubeconfig=kubeconfig)
    own = {**SHARED, "workspaces": {"image": SHARED["workspaces"]["image"]}}
    with pytest.raises(HelmError, match="at the cluster scope"):
        helm.run(*install, values=own, kubeconfig=kubeconfig)
    assert kinds(helm.template(own), "ClusterRole")
