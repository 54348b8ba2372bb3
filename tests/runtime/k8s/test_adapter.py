"""The adapter against a real API server; where a node would speak, the test does."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kernel.errors import ClusterFault, Failure, PlatformFault, UserFault
from tests.runtime.k8s.conftest import LIMITS, Stage, patiently
from tests.support.waiting import eventually
from workspaces.runtime.errors import SpecConflict
from workspaces.runtime.port import Presence, RunSpec

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

UP = {"name": "workspace", "image": "i", "imageID": "", "ready": True, "restartCount": 0}
STARTED = "2026-11-24T06:00:00Z"


def test_a_run_stands_behind_all_of_its_walls(stage: Stage) -> None:
    seen = stage.start()
    assert (seen.presence, seen.reason, seen.run) == (Presence.RUNNING, "starting", 1)
    for kind in ("serviceaccount", "role", "rolebinding", "resourcequota", "limitrange", "persistentvolumeclaim"):
        assert stage.get(kind), kind
    for suffix in ("closed", "gateway", "platform", "names", "egress"):
        assert stage.get("networkpolicy", f"-{suffix}"), suffix
    labels = stage.cluster.get("namespace", f"{stage.prefix}demo")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    pod = stage.get("pod")
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert not [volume for volume in pod["spec"]["volumes"] if "projected" in volume]
    assert pod["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    claim = stage.get("persistentvolumeclaim")["metadata"]
    for meta in (pod["metadata"], claim):
        assert "ownerReferences" not in meta, "nothing else's deletion takes it along"
    assert {*pod["metadata"].get("finalizers", ()), *claim["finalizers"]} == {"kubernetes.io/pvc-protection"}


@pytest.mark.parametrize("changes", [{}, {"ide_image": "ide:1"}, {"ide_image": "ide:1", "delivery": "image_volume"}])
def test_what_is_stored_is_what_was_asked_for(stage: Stage, changes: dict[str, Any]) -> None:
    stage.start(**changes)
    spec = stage.get("pod")["spec"]
    containers = [*spec.get("initContainers", []), *spec["containers"]]
    assert len(containers) == (2 if changes == {"ide_image": "ide:1"} else 1)
    for container in containers:
        assert set(container["resources"]["limits"]) == {"cpu", "memory", "ephemeral-storage"}
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
    if changes.get("delivery") == "image_volume":
        assert [volume["image"]["reference"] for volume in spec["volumes"] if "image" in volume] == ["ide:1"]


def test_secrets_are_in_no_place_but_the_secret(stage: Stage) -> None:
    stage.start()
    assert "s3cret" not in str(stage.get("pod"))
    assert stage.get("secret", "-1")["data"]


def test_another_spec_is_a_conflict_and_kills_nothing(stage: Stage) -> None:
    stage.start(run=1)
    uid = stage.get("pod")["metadata"]["uid"]
    with pytest.raises(SpecConflict):
        stage.runtime().ensure_run(stage.spec(run=2))
    assert stage.get("pod")["metadata"]["uid"] == uid
    assert "deletionTimestamp" not in stage.get("pod")["metadata"]


def test_many_callers_at_once_make_one_pod(stage: Stage) -> None:
    runtime = stage.runtime()
    patiently(lambda: runtime.ensure_volume("demo"))
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda _: patiently(lambda: stage.runtime().ensure_run(stage.spec())), range(8)))
    assert {one.run for one in seen} == {1}
    pods = stage.cluster.kubectl("get", "pods", "--namespace", f"{stage.prefix}demo", "--output", "name").split()
    assert len(pods) == 1


STEPS = ("namespace_made", "walls_made", "pod_made", "log_kept", "claim_deleted")


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", STEPS)
def test_who_dies_at_any_step_leaves_what_the_next_one_finishes(stage: Stage, step: str) -> None:
    def die(reached: str) -> None:
        if reached == step:
            raise Killed

    mortal, survivor = stage.runtime(on_step=die), stage.runtime()

    def twice(name: str, *arguments: Any, **words: Any) -> None:
        try:
            patiently(lambda: getattr(mortal, name)(*arguments, **words))
        except Killed:
            patiently(lambda: getattr(survivor, name)(*arguments, **words))

    twice("ensure_volume", "demo")
    twice("ensure_run", stage.spec())
    assert survivor.observe("demo").run == 1
    claim = stage.get("persistentvolumeclaim")["metadata"]["uid"]
    twice("stop", "demo", grace=1)
    twice("destroy_run", "demo")
    assert survivor.observe("demo").presence is Presence.ABSENT
    assert stage.get("persistentvolumeclaim")["metadata"]["uid"] == claim
    assert [one.has_volume for one in survivor.list()] == [True]
    twice("destroy_volume", "demo")
    assert survivor.list() == []
    eventually(lambda: not stage.cluster.get("namespace", f"{stage.prefix}demo"), timeout=60)


def test_a_volume_is_never_made_up_on_the_way(stage: Stage) -> None:
    runtime = stage.runtime()
    with pytest.raises(ClusterFault) as caught:
        runtime.ensure_run(stage.spec())
    assert (caught.value.code, caught.value.temporary) == ("volume_missing", False)
    assert not stage.cluster.get("namespace", f"{stage.prefix}demo")


def test_a_namespace_deleted_by_hand_takes_the_volume_and_nothing_is_put_in_its_place(stage: Stage) -> None:
    runtime = stage.runtime()
    stage.start(runtime)
    stage.cluster.kubectl("delete", "namespace", f"{stage.prefix}demo", "--wait=false")
    with pytest.raises((ClusterFault, SpecConflict)):
        runtime.ensure_run(stage.spec(run=2))
    eventually(lambda: not stage.cluster.get("namespace", f"{stage.prefix}demo"), timeout=60)
    with pytest.raises(ClusterFault) as caught:
        runtime.ensure_run(stage.spec(run=2))
    assert caught.value.code == "volume_missing"


def test_a_claim_on_its_way_out_gets_no_second_one(stage: Stage) -> None:
    runtime = stage.runtime()
    stage.start(runtime)
    stage.bind()
    stage.cluster.kubectl("delete", "pvc", f"{stage.prefix}demo", "--namespace", f"{stage.prefix}demo", "--wait=false")
    operations: Sequence[Callable[[], object]] = [
        lambda: runtime.ensure_volume("demo"),
        lambda: runtime.ensure_run(stage.spec()),
    ]
    for operation in operations:
        with pytest.raises(ClusterFault) as caught:
            operation()
        assert (caught.value.code, caught.value.temporary) == ("volume_ending", True)


def test_a_namespace_on_its_way_out_is_waited_for(stage: Stage) -> None:
    runtime = stage.runtime()
    patiently(lambda: runtime.ensure_volume("demo"))
    runtime.destroy_volume("demo")
    assert runtime.list() == []
    patiently(lambda: runtime.ensure_volume("demo"))
    assert [one.has_volume for one in runtime.list()] == [True]


def test_what_is_not_ours_is_neither_used_nor_touched(stage: Stage) -> None:
    name = f"{stage.prefix}demo"
    stage.cluster.kubectl("create", "namespace", name)
    runtime = stage.runtime()
    operations: Sequence[Callable[[], object]] = [
        lambda: runtime.ensure_volume("demo"),
        lambda: runtime.destroy_volume("demo"),
    ]
    for operation in operations:
        with pytest.raises(PlatformFault) as caught:
            operation()
        assert caught.value.code == "name_taken"
    assert "slipway.dev/instance" not in stage.cluster.get("namespace", name)["metadata"]["labels"]
    stage.cluster.kubectl("delete", "namespace", name, "--wait=false")


def test_two_installations_in_one_cluster_do_not_see_each_other(stage: Stage) -> None:
    stage.start()
    other = stage.runtime(instance=f"{stage.values['instance']}-b")
    assert other.list() == []
    with pytest.raises(PlatformFault):
        other.ensure_volume("demo")
    assert other.observe("demo").presence is Presence.UNKNOWN


def test_a_quota_of_somebody_elses_is_told_with_its_numbers(stage: Stage) -> None:
    runtime = stage.runtime()
    patiently(lambda: runtime.ensure_volume("demo"))
    name = f"{stage.prefix}demo"
    quota = {
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "team", "namespace": name},
        "spec": {"hard": {"limits.memory": "512Mi"}},
    }  # fmt: skip
    stage.cluster.apply(quota)
    with pytest.raises(UserFault) as caught:
        patiently(lambda: runtime.ensure_run(stage.spec()))
    assert caught.value.code == "quota_exceeded"
    assert "“team” is used up: asked limits.memory=1Gi, used limits.memory=0, limit limits.memory=512Mi" in (
        caught.value.user_text
    )
    assert runtime.observe("demo").presence is Presence.ABSENT


def test_a_cluster_that_is_away_stops_nothing(stage: Stage) -> None:
    runtime = stage.runtime(connect_seconds=1, read_seconds=1)
    stage.start(runtime)
    for away, back in (
        (stage.cluster.stop_api, stage.cluster.start_api),
        (stage.cluster.pause_api, stage.cluster.resume_api),
    ):
        away()
        try:
            assert runtime.observe("demo").presence is Presence.UNKNOWN
            operations: Sequence[Callable[[], object]] = [
                lambda: runtime.stop("demo", grace=1),
                lambda: runtime.destroy_run("demo"),
                runtime.list,
            ]
            for operation in operations:
                with pytest.raises(ClusterFault) as caught:
                    operation()
                assert (caught.value.code, caught.value.temporary) == ("cluster_away", True)
        finally:
            back()
        assert patiently(lambda: runtime.observe("demo")).presence is Presence.RUNNING
    assert "deletionTimestamp" not in stage.get("pod")["metadata"]


def test_an_account_without_rights_is_the_operators_to_mend(stage: Stage) -> None:
    runtime = stage.runtime(kubeconfig=stage.cluster.kubeconfig_for("nobody"))
    with pytest.raises(ClusterFault) as caught:
        runtime.ensure_volume("demo")
    assert (caught.value.code, caught.value.temporary) == ("cluster_refused", False)
    assert runtime.observe("demo").presence is Presence.UNKNOWN


def test_a_stop_is_a_question_to_the_node_and_never_forgets_a_pod_that_runs(stage: Stage) -> None:
    runtime = stage.runtime()
    stage.start(runtime)
    stage.bind()
    runtime.stop("demo", grace=30)
    meta = stage.get("pod")["metadata"]
    assert meta["deletionGracePeriodSeconds"] == 30
    assert (runtime.observe("demo").presence, runtime.observe("demo").reason) == (Presence.RUNNING, "ending")
    runtime.stop("demo", grace=60)
    assert stage.get("pod")["metadata"]["deletionGracePeriodSeconds"] == 30
    runtime.stop("demo", grace=0)
    assert stage.get("pod")["metadata"]["deletionGracePeriodSeconds"] == 1
    for _ in range(3):
        with pytest.raises(ClusterFault) as caught:
            runtime.destroy_run("demo")
        assert (caught.value.code, caught.value.temporary) == ("still_ending", True)
    with pytest.raises(PlatformFault):
        runtime.destroy_volume("demo")
    assert stage.get("pod")["metadata"]["uid"] == meta["uid"]
    stage.forget_pod()
    assert runtime.observe("demo").presence is Presence.ABSENT
    runtime.destroy_run("demo")
    assert stage.get("secret", "-1") == {}


def test_a_silent_node_is_unknown(stage: Stage) -> None:
    runtime = stage.runtime()
    stage.start(runtime)
    stage.bind()
    running = [{**UP, "state": {"running": {"startedAt": STARTED}}}]
    stage.say(phase="Running", podIP="10.1.1.1", podIPs=[{"ip": "10.1.1.1"}], containerStatuses=running)
    seen = runtime.observe("demo")
    assert (seen.presence, seen.reason) == (Presence.RUNNING, "")
    assert seen.upstream == {"ide": "tcp://10.1.1.1:7411", "ports": "tcp://10.1.1.1:7411"}
    with pytest.raises(Failure) as caught:
        runtime.abandon_run("demo")
    assert caught.value.code == "machine_answers"
    stage.say(conditions=[{"type": "Ready", "status": "False", "reason": "NodeNotReady"}])
    assert (runtime.observe("demo").presence, runtime.observe("demo").reason) == (Presence.UNKNOWN, "node_lost")
    # However it is asked to end, it stays: its disk may still be in use.
    with pytest.raises(Failure) as caught:
        runtime.destroy_run("demo")
    assert (caught.value.code, caught.value.temporary) == ("still_ending", True)
    assert stage.get("pod")
    assert stage.get("secret", "-1") == {}
    runtime.abandon_run("demo")
    runtime.abandon_run("demo")
    assert runtime.observe("demo").presence is Presence.ABSENT
    assert [one.has_volume for one in runtime.list()] == [True]


def test_changed_settings_are_told_and_restart_nothing(stage: Stage) -> None:
    stage.start()
    changed = stage.runtime(image="local.test/workspace:2")
    assert changed.ensure_run(stage.spec()).warnings == ("restart_to_apply",)
    assert stage.get("pod")["spec"]["containers"][0]["image"] == "local.test/workspace:1"


def test_one_namespace_for_all_where_no_other_is_allowed(stage: Stage) -> None:
    shared = f"{stage.prefix}shared"
    labels = {"slipway.dev/instance": str(stage.values["instance"])}
    stage.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": shared, "labels": labels}})
    runtime = stage.runtime(layout="shared", namespace=shared)
    for name in ("one", "two"):
        runtime.ensure_volume(name)
        patiently(functools.partial(runtime.ensure_run, RunSpec(name, 1, {}, {}, LIMITS)))
    assert [(one.name, one.presence) for one in runtime.list()] == [
        ("one", Presence.RUNNING), ("two", Presence.RUNNING),
    ]  # fmt: skip
    patiently(lambda: runtime.destroy_run("one"))
    runtime.destroy_volume("one")
    assert [one.name for one in runtime.list()] == ["two"]
    left = stage.cluster.kubectl("get", "netpol,sa,role,secret,cm,pvc", "--namespace", shared, "--output", "name")
    assert f"{stage.prefix}one" not in left
    assert stage.cluster.get("namespace", shared)


def test_a_repository_in_a_folder_is_refused_in_words(stage: Stage) -> None:
    runtime = stage.runtime()
    runtime.ensure_volume("demo")
    with pytest.raises(Failure) as caught:
        runtime.ensure_run(RunSpec("demo", 1, {}, {}, LIMITS, readable=("/srv/git",)))
    assert caught.value.code == "repository_unreachable"


def test_a_wall_that_is_wanted_closed_again_is_closed(stage: Stage) -> None:
    runtime = stage.runtime(allowed=("192.0.2.0/24",))
    stage.start(runtime)
    assert stage.get("networkpolicy", "-egress")
    stage.cluster.apply({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "somebody-elses", "namespace": f"{stage.prefix}demo"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    })  # fmt: skip
    patiently(lambda: runtime.destroy_run("demo"))
    stage.start(stage.runtime(egress="none"), run=2)
    left = stage.cluster.kubectl("get", "networkpolicy", "--namespace", f"{stage.prefix}demo", "--output", "name")
    assert {name.rpartition(f"{stage.prefix}demo-")[2] for name in left.split() if "somebody" not in name} == {
        "closed", "gateway", "platform",
    }  # fmt: skip
    assert "somebody-elses" in left


def test_labels_alone_make_nothing_a_workspaces(stage: Stage) -> None:
    stage.start()
    pod = stage.get("pod")
    labels = {**pod["metadata"]["labels"], "slipway.dev/workspace": "other"}
    impostor = {
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "x", "namespace": f"{stage.prefix}demo", "labels": labels},
    }  # fmt: skip
    claims = [
        {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {
                "name": f"x-{number}",
                "namespace": f"{stage.prefix}elsewhere",
                "labels": {**labels, "slipway.dev/workspace": name},
            },
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
        }
        for number, name in enumerate(("other", "Not_a.label"))
    ]  # fmt: skip
    space = {"name": f"{stage.prefix}elsewhere", "labels": {"slipway.dev/instance": str(stage.values["instance"])}}
    stage.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": space}, impostor, *claims)
    assert [entry.name for entry in stage.runtime().list()] == ["demo"]


def test_a_node_that_hands_out_no_log_keeps_nothing_from_ending(stage: Stage) -> None:
    name = f"{stage.prefix}mute"
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 1}},
    }
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}
    stage.cluster.kubectl("create", "--filename", "-", text=json.dumps(node))
    try:
        runtime = stage.runtime()
        stage.start(runtime)
        stage.bind(name)
        stage.say(phase="Running", containerStatuses=[{**UP, "state": {"running": {"startedAt": STARTED}}}])
        patiently(lambda: runtime.stop("demo", grace=5))
        assert "deletionTimestamp" in stage.get("pod")["metadata"]
    finally:
        stage.cluster.kubectl("delete", "node", name, "--wait=false")
