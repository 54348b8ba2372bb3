"""What the API server refuses, in its own words as a 1.34 server says them, and what people read."""

from __future__ import annotations

import pytest

from workspaces.runtime.errors import ClusterFault, Failure, PlatformFault, UserFault
from workspaces.runtime.k8s.client import Refusal, kind_at, path_of
from workspaces.runtime.k8s.faults import explain

QUOTA = (
    'pods "ws-demo" is forbidden: exceeded quota: team, requested: limits.cpu=2,pods=1,'
    " used: limits.cpu=7,pods=4, limited: limits.cpu=8,pods=9"
)
SECURITY = (
    'pods "bad" is forbidden: violates PodSecurity "restricted:latest": privileged'
    ' (container "c" must not set securityContext.privileged=true)'
)
ENDING = "unable to create new content in namespace x because it is being terminated"

CASES: dict[str, tuple[Refusal, type[Failure], str, bool]] = {
    "quota": (Refusal(403, "Forbidden", QUOTA), UserFault, "quota_exceeded", False),
    "quota not counted yet": (
        Refusal(403, "Forbidden", 'pods "x" is forbidden: status unknown for quota: ws-demo, resources: pods'),
        ClusterFault, "cluster_catching_up", True,
    ),
    "account not seen yet": (
        Refusal(403, "Forbidden", 'pods "x" is forbidden: error looking up service account ws-demo/ws-demo: not found'),
        ClusterFault, "cluster_catching_up", True,
    ),
    "namespace on its way out": (
        Refusal(403, "Forbidden", ENDING, ("NamespaceTerminating",)),
        ClusterFault, "namespace_ending", True,
    ),
    "pod security": (Refusal(403, "Forbidden", SECURITY), PlatformFault, "pod_refused", False),
    "no right": (
        Refusal(403, "Forbidden", 'pods is forbidden: User "x" cannot create resource "pods"'),
        ClusterFault, "cluster_refused", False,
    ),
    "not known": (Refusal(401, "Unauthorized", "Unauthorized"), ClusterFault, "cluster_refused", False),
    "somebody else": (Refusal(409, "Conflict", "the object has been modified"), ClusterFault, "runtime_busy", True),
    "invalid": (Refusal(422, "Invalid", "Pod is invalid"), PlatformFault, "cluster_rejected", False),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_a_refusal_means(case: str) -> None:
    refusal, kind, code, temporary = CASES[case]
    failure = explain(refusal, "create pod demo")
    assert (type(failure), failure.code, failure.temporary) == (kind, code, temporary)
    assert refusal.message in failure.log_text
    assert failure.next_step
    assert refusal.message not in failure.user_text


def test_a_used_up_quota_is_told_with_its_numbers() -> None:
    text = explain(Refusal(403, "Forbidden", QUOTA), "create").user_text
    for word in ("team", "limits.cpu=2,pods=1", "limits.cpu=7,pods=4", "limits.cpu=8,pods=9"):
        assert word in text


@pytest.mark.parametrize(
    ("kind", "namespace", "name", "path"),
    [
        ("Namespace", "", "a", "/api/v1/namespaces/a"),
        ("Namespace", "a", "a", "/api/v1/namespaces/a"),
        ("Pod", "", "", "/api/v1/pods"),
        ("Pod", "n", "p", "/api/v1/namespaces/n/pods/p"),
        ("Role", "n", "", "/apis/rbac.authorization.k8s.io/v1/namespaces/n/roles"),
        ("Pod", "n/../x", "?a", "/api/v1/namespaces/n%2F..%2Fx/pods/%3Fa"),
    ],
)
def test_addresses(kind: str, namespace: str, name: str, path: str) -> None:
    assert path_of(kind, namespace, name) == path
    assert kind_at(path) == kind


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/api/v1/namespaces/pods/secrets/pods", "Secret"),
        ("/api/v1/namespaces/a/pods/b/log", "Pod"),
        ("/apis/rbac.authorization.k8s.io/v1/namespaces/a/roles", "Role"),
        ("/apis/snapshot.storage.k8s.io/v1", "other"),
        ("/version", "other"),
    ],
)
def test_what_a_request_is_counted_as(path: str, kind: str) -> None:
    assert kind_at(path) == kind
