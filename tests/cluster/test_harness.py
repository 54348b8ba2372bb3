"""The control plane of the tests is a real one: it answers, refuses, counts, stops and comes back."""

from __future__ import annotations

import pytest

from tests.cluster import manifests
from tests.cluster.access import Cluster, KubectlError
from tests.cluster.control_plane import ControlPlane
from tests.support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def test_the_api_answers(control_plane: Cluster) -> None:
    assert "Server Version: v1." in control_plane.kubectl("version")
    assert control_plane.url.startswith("https://")


def test_restricted_refuses_a_pod_that_violates_it(control_plane: Cluster) -> None:
    control_plane.apply(manifests.namespace("restricted"))
    bad = manifests.pod("bad", "restricted", hostNetwork=True)
    with pytest.raises(KubectlError, match=r'violates PodSecurity "restricted:latest": host namespaces'):
        control_plane.apply(bad)
    control_plane.apply(manifests.pod("good", "restricted"))
    control_plane.kubectl("delete", "namespace", "restricted", "--wait=false")


def test_users_and_service_accounts_have_no_rights_but_those_given(control_plane: Cluster) -> None:
    account = control_plane.kubeconfig_for_service_account("default")
    for who, name in (
        (control_plane.kubeconfig_for("alice"), "alice"),
        (account, "system:serviceaccount:default:default"),
    ):
        with pytest.raises(KubectlError, match=f'User "{name}" cannot list resource "secrets"'):
            control_plane.kubectl("get", "secrets", kubeconfig=who)
    assert (
        control_plane.kubectl(
            "get", "secrets", kubeconfig=control_plane.kubeconfig_for("bob", groups=["system:masters"])
        )
        == ""
    )


def test_quotas_are_counted(control_plane: Cluster) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few", "namespace": "quota"}}
    control_plane.apply(manifests.namespace("quota"), {**quota, "spec": {"hard": {"pods": "1"}}})
    eventually(lambda: control_plane.get("resourcequota", "few", "quota")["status"].get("used"), what="counted")
    control_plane.apply(manifests.pod("first", "quota"))
    with pytest.raises(KubectlError, match="exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1"):
        control_plane.apply(manifests.pod("second", "quota"))
    control_plane.kubectl("delete", "namespace", "quota", "--wait=false")


def test_the_api_can_be_stopped_and_comes_back_with_its_data(control_plane: Cluster) -> None:
    control_plane.stop_api()
    with pytest.raises(KubectlError, match="refused"):
        control_plane.kubectl("get", "namespaces")
    control_plane.start_api()
    control_plane.kubectl("create", "configmap", "after")
    control_plane.pause_api()
    try:
        with pytest.raises(KubectlError):
            control_plane.kubectl("get", "configmap", "after", "--request-timeout=1s")
    finally:
        control_plane.resume_api()
    assert control_plane.get("configmap", "after")
    control_plane.kubectl("delete", "configmap", "after")


def test_two_control_planes_do_not_know_each_other(control_plane: Cluster) -> None:
    with ControlPlane.run() as other:
        other.apply(manifests.namespace("elsewhere"))
        assert not control_plane.get("namespace", "elsewhere")
    assert not other.folder.exists()
