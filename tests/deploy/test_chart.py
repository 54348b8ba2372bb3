"""The chart as it is rendered: what each set of values makes, and which values are refused."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml

from gateway import config as edge
from tests.deploy.generated import CHART, ROOT
from tests.deploy.helm import (
    DEV,
    EVERYTHING,
    LEAST,
    ROUTE,
    SHARED,
    TRIAL,
    VALUES,
    Helm,
    HelmError,
    containers,
    kinds,
    pods,
)
from workspaces.runtime.k8s.config import K8sConfig, read_options
from workspaces.runtime.k8s.manifests import network
from workspaces.runtime.k8s.names import place

pytestmark = pytest.mark.cluster

Json = dict[str, Any]
OURS = {"gateway", "web", "worker", "beat", "operator", "migrate"}
# What a cluster's admin has to give; whoever has rights in single namespaces only cannot make it.
OF_THE_CLUSTER = {
    "ClusterRole", "ClusterRoleBinding", "PriorityClass", "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}  # fmt: skip
every_set = pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())


def _with(path: str, value: Any, base: Json = LEAST) -> Json:
    """Values with another one at a dotted path."""
    found = copy.deepcopy(base)
    *way, last = path.split(".")
    part = found
    for step in way:
        part = part.setdefault(step, {})
    part[last] = value
    return found


REFUSED: list[tuple[Json, str]] = [
    (_with("portalUrl", ""), "/portalUrl"),
    (_with("portalUrl", "https://slipway.example.com/portal"), "/portalUrl"),
    (_with("portalUrl", "slipway.example.com"), "/portalUrl"),
    (_with("workspaces", {}), "/workspaces/image"),
    (_with("workspaces.image", "two words"), "/workspaces/image"),
    (_with("workspaces.egress", "some"), "/workspaces/egress"),
    (_with("workspaces.user", 0), "/workspaces/user"),
    (_with("workspaces.platform_url", "http://elsewhere"), "platform_url"),
    (_with("workspaces.kubeconfig", "/root/.kube/config"), "kubeconfig"),
    (_with("workspaces.instance", "Not A Label"), "/workspaces/instance"),
    (_with("workspaces.layout", "shared"), "workspaces.namespace"),
    (_with("workspaces.namespace", "workspaces"), "workspaces.layout=shared"),
    (_with("workspaces.namespace", "slipway", SHARED), "must not be the release's own"),
    (_with("workspaces.egress", "none"), "gateway.agentsClusterIP"),
    (_with("database.existingSecret", ""), "database.existingSecret"),
    (_with("redis.existingSecret", ""), "redis.existingSecret"),
    (_with("trial.enabled", value=True), "leave database.existingSecret"),
    (_with("settings.SLIPWAY_SECRET_KEY", "s3cret"), "SLIPWAY_SECRET_KEY"),
    (_with("settings.DATABASE_URL", "postgres://u:p@h/n"), "DATABASE_URL"),
    (_with("settings.SLIPWAY_TRASH_DAYS", 30), "/settings/SLIPWAY_TRASH_DAYS"),
    (_with("gateway.replicas", 0), "/gateway/replicas"),
    (_with("gateway.trustedProxies", ["everybody"]), "/gateway/trustedProxies/0"),
    (_with("web.resources.limits.memory", None), "missing property 'memory'"),
    (_with("web.resources.limits.memory", "much"), "/web/resources/limits/memory"),
    (_with("httpRoute.enabled", value=True), "/httpRoute/parentRefs"),
    (_with("ingress.enabled", value=True, base=ROUTE), "choose one of"),
    (_with("backup.existingSecret", "copies"), "workspaces.backup.repository"),
    (_with("devCluster.options", {"role": "edit"}), "missing property 'server'"),
    (_with("devCluster.options", {"server": "http://dev.example.com"}), "/devCluster/options"),
    (_with("devCluster.options.kubeconfig", "/root/.kube/config", DEV), "/devCluster/options"),
    (_with("devCluster.options.token_seconds", 60, DEV), "/devCluster/options"),
    (_with("admissionPolicy.enabled", value=False, base=DEV), "leave admissionPolicy.enabled on"),
    (_with("devCluster.existingSecret", "dev"), "devCluster.options.server"),
    (_with("devCluster.options", DEV["devCluster"]["options"], SHARED), "devCluster.existingSecret"),
    (_with("settings.SLIPWAY_DEV_CLUSTER_OPTIONS", "/etc/dev.yaml"), "SLIPWAY_DEV_CLUSTER_OPTIONS"),
    (_with("backup.key", "", EVERYTHING | {"backup": {"existingSecret": "copies"}}), "backup.authorityKey"),
    (_with("workspaces.backup", {"repository": "no registry"}), "/workspaces/backup"),
    (_with("workspaces.backup.credentials", "/root/.docker/config.json", EVERYTHING), "/workspaces/backup"),
    (_with("monitoring.from", []), "/monitoring/from"),
    (_with("image.digest", "latest"), "/image/digest"),
    (_with("listenAddress", "localhost"), "/listenAddress"),
    (_with("nonsense", 1), "nonsense"),
]


@pytest.mark.parametrize(("values", "words"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_a_value_that_makes_no_sense_is_refused_by_name(helm: Helm, values: Json, words: str) -> None:
    with pytest.raises(HelmError) as refused:
        helm.template(values)
    assert words.strip("/").split("/")[-1] in str(refused.value)


@every_set
def test_it_passes_helms_own_look(helm: Helm, values: Json) -> None:
    helm.run("lint", "--strict", str(CHART), values=values)


@every_set
def test_every_process_has_its_pod(helm: Helm, values: Json) -> None:
    found = pods(helm.template(values)).keys()
    bundled = {"trial-database", "trial-redis"} if values is TRIAL else set()
    assert found == OURS | {"test"} | bundled


@every_set
def test_every_container_is_confined_limited_and_looked_at(helm: Helm, values: Json) -> None:
    for component, pod in pods(helm.template(values)).items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["enableServiceLinks"] is False
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        if component not in {"migrate", "test"}:
            (main,) = spec["containers"]
            assert {"startupProbe", "livenessProbe", "readinessProbe"} <= main.keys(), component


@every_set
def test_only_who_talks_to_the_cluster_has_a_token_of_it(helm: Helm, values: Json) -> None:
    found = pods(helm.template(values))
    with_token = {name for name, pod in found.items() if pod["spec"]["automountServiceAccountToken"]}
    assert with_token == {"web", "worker", "operator"}
    accounts = [pod["spec"].get("serviceAccountName") for name, pod in found.items() if name in OURS]
    assert len(set(accounts)) == len(OURS)


@every_set
def test_selectors_find_what_they_are_for(helm: Helm, values: Json) -> None:
    objects = helm.template(values)
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(objects).items()}

    def chosen(selector: Json) -> set[str]:
        wanted = selector.get("matchLabels", {}).items()
        found = {name for name, own in labels.items() if wanted <= own.items()}
        for rule in selector.get("matchExpressions", []):
            assert rule["operator"] == "In"
            found = {name for name in found if labels[name].get(rule["key"]) in rule["values"]}
        return found

    for one in kinds(objects, "Deployment", "StatefulSet", "PodDisruptionBudget"):
        component = one["metadata"]["labels"]["app.kubernetes.io/component"]
        assert chosen(one["spec"]["selector"]) == {component}
    for service in kinds(objects, "Service"):
        component = service["metadata"]["labels"]["app.kubernetes.io/component"]
        found = chosen({"matchLabels": service["spec"]["selector"]})
        assert found == ({component} if component != "metrics" else labels.keys())
        ports = {
            port["name"] for name in found for box in containers(pods(objects)[name]) for port in box.get("ports", ())
        }
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for policy in kinds(objects, "NetworkPolicy"):
        assert chosen(policy["spec"]["podSelector"]), policy["metadata"]["name"]
    closed = next(one for one in kinds(objects, "NetworkPolicy") if one["metadata"]["name"] == "slipway-closed")
    assert chosen(closed["spec"]["podSelector"]) == labels.keys()
    assert closed["spec"].keys() == {"podSelector", "policyTypes"}


@every_set
def test_everything_that_is_mounted_or_named_is_there_or_was_given(helm: Helm, values: Json) -> None:
    objects = helm.template(values)
    made = {(one["kind"], one["metadata"]["name"]) for one in objects}
    given = {("Secret", name) for name in ("database", "redis", "own", "github", "registry", "copies", "dev")}
    for pod in pods(objects).values():
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        claims = {"data"} if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "trial-database" else set()
        for container in containers(pod):
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes.keys() | claims
        for kind, name in _named(pod["spec"]):
            assert (kind, name) in made | given


_NAMES = {"secretKeyRef": "Secret", "secret": "Secret", "configMapRef": "ConfigMap", "configMap": "ConfigMap"}


def _named(part: Any) -> set[tuple[str, str]]:
    """The Secrets, ConfigMaps and accounts that a pod names."""
    if isinstance(part, list):
        return set().union(*map(_named, part))
    if not isinstance(part, dict):
        return set()
    found = set().union(*map(_named, part.values()))
    for key, one in part.items():
        if key == "serviceAccountName":
            found.add(("ServiceAccount", one))
        elif key in _NAMES and isinstance(one, dict):
            found.add((_NAMES[key], one.get("name") or one["secretName"]))
    return found


@pytest.mark.parametrize("values", [LEAST, TRIAL])
def test_no_secret_stands_anywhere_but_in_secrets(helm: Helm, values: Json) -> None:
    objects = helm.template(values)
    secrets = [
        text
        for secret in kinds(objects, "Secret")
        for text in {**secret.get("data", {}), **secret.get("stringData", {})}.values()
    ]
    assert len(secrets) == (2 if values is LEAST else 7)
    assert all(len(text) >= 32 for text in secrets)
    rest = yaml.safe_dump([one for one in objects if one["kind"] != "Secret"])
    assert not [text for text in secrets if text in rest]
    for secret in kinds(objects, "Secret"):
        assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_where_single_namespaces_are_all_one_has_nothing_of_the_cluster_is_made(helm: Helm) -> None:
    objects = helm.template(SHARED)
    assert not kinds(objects, *OF_THE_CLUSTER)
    roles = {one["metadata"]["namespace"] for one in kinds(objects, "Role", "RoleBinding")}
    assert roles == {"workspaces", "slipway"}
    assert {one["kind"] for one in helm.template(LEAST)} >= OF_THE_CLUSTER


def _options(objects: list[Json]) -> K8sConfig:
    (settings,) = kinds(objects, "ConfigMap")
    return read_options(yaml.safe_load(settings["data"]["workspaces.yaml"]))


@every_set
def test_the_runtime_understands_what_it_is_given(helm: Helm, values: Json) -> None:
    objects = helm.template(values)
    config = _options(objects)
    assert config.image == "registry.example.com/workspace:1"
    assert config.instance == ("other" if values is EVERYTHING else "slipway-slipway")
    classes = {one["metadata"]["name"]: one["value"] for one in kinds(objects, "PriorityClass")}
    if classes:
        own = pods(objects)["web"]["spec"]["priorityClassName"]
        assert classes[config.priority_class] < classes[own]


def test_jobs_are_lent_what_the_chart_was_given_for_their_registry(helm: Helm) -> None:
    objects = helm.template(EVERYTHING)
    backup = _options(objects).backup
    assert backup is not None
    assert backup.repository == "registry.example.com/copies"
    worker = pods(objects)["worker"]["spec"]
    (secret,) = [volume["secret"] for volume in worker["volumes"] if volume["name"] == "backup"]
    (mount,) = [one for one in worker["containers"][0]["volumeMounts"] if one["name"] == "backup"]
    files = {f"{mount['mountPath']}/{item['path']}" for item in secret["items"]}
    assert files == {str(backup.credentials), str(backup.authority)}
    # Nobody else starts jobs.
    holders = [name for name, pod in pods(objects).items() if '"copies"' in json.dumps(pod)]
    assert holders == ["worker"]


@every_set
def test_workspaces_and_the_gateway_let_each_other_in(helm: Helm, values: Json) -> None:
    """The chart's policies know the pods of workspaces, and the adapter's those of the platform."""
    objects = helm.template(values)
    config = _options(objects)
    at = place(config, "demo")
    shared = {"kubernetes.io/metadata.name": at.namespace}
    space = shared if config.layout == "shared" else {**shared, **at.labels}
    gateway = pods(objects)["gateway"]["metadata"]["labels"]

    def lets(peers: list[Json], namespace: Json, pod: Json) -> bool:
        return any(
            peer["namespaceSelector"]["matchLabels"].items() <= namespace.items()
            and peer["podSelector"].get("matchLabels", {}).items() <= pod.items()
            and all(rule["key"] in pod for rule in peer["podSelector"].get("matchExpressions", []))
            for peer in peers
            if "namespaceSelector" in peer and "podSelector" in peer
        )

    theirs = {policy["metadata"]["name"].removeprefix(f"{at.name}-"): policy for policy in network.policies(config, at)}
    (door,) = theirs["gateway"]["spec"]["ingress"]
    (report,) = theirs["platform"]["spec"]["egress"]
    assert lets(door["from"], {"kubernetes.io/metadata.name": "slipway"}, gateway)
    assert lets(report["to"], {"kubernetes.io/metadata.name": "slipway"}, gateway)
    ours = next(one for one in kinds(objects, "NetworkPolicy") if one["metadata"]["name"] == "slipway-gateway")
    (agents,) = [rule for rule in ours["spec"]["ingress"] if rule["ports"] == [{"port": "agents"}]]
    assert lets(agents["from"], space, at.labels)
    assert not lets(agents["from"], {"kubernetes.io/metadata.name": "other"}, {"app": "other"})
    (way,) = [
        rule
        for rule in ours["spec"]["egress"]
        if rule["ports"] == door["ports"] or rule["ports"] == [{"port": config.door_port}]
    ]
    assert lets(way["to"], space, at.labels)
    (port,) = [port for port in pods(objects)["gateway"]["spec"]["containers"][0]["ports"] if port["name"] == "agents"]
    assert report["ports"] == [{"protocol": "TCP", "port": port["containerPort"]}]


@every_set
def test_the_gateway_understands_how_it_is_started(helm: Helm, values: Json) -> None:
    objects = helm.template(values)
    gateway = pods(objects)["gateway"]["spec"]
    (main,) = gateway["containers"]
    assert main["command"][:3] == ["python", "-m", "gateway"]
    flags = [flag for flag in main["command"][3:] if not flag.startswith("--secret-file")]
    found = edge.read(flags, {"SLIPWAY_INTERNAL_SECRET": "s3cret"})
    ports = {port["name"]: port["containerPort"] for port in main["ports"]}
    assert (found.domain, found.portal_url) == ("slipway.example.com", values["portalUrl"])
    assert found.port == ports["public"]
    assert found.agents_listen.endswith(f":{ports['agents']}")
    assert found.admin.endswith(f":{ports['metrics']}")
    web = next(one for one in kinds(objects, "Service") if one["metadata"]["name"] == "slipway-web")
    assert found.web == f"http://slipway-web:{web['spec']['ports'][0]['port']}"
    pause = main["lifecycle"]["preStop"]["sleep"]["seconds"]
    longest = max(found.drain_seconds, found.drain_socket_seconds)
    assert gateway["terminationGracePeriodSeconds"] > pause + longest
    assert found.drain_idle_seconds <= found.drain_seconds


@pytest.mark.parametrize("values", [EVERYTHING, ROUTE])
def test_the_portal_and_all_workspaces_have_a_way_in(helm: Helm, values: Json) -> None:
    objects = helm.template(values)
    hosts = ["slipway.example.com", "*.slipway.example.com"]
    if values is ROUTE:
        (route,) = kinds(objects, "HTTPRoute")
        assert route["spec"]["hostnames"] == hosts
        return
    (ingress,) = kinds(objects, "Ingress")
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == hosts
    assert ingress["spec"]["tls"] == [{"secretName": "tls", "hosts": hosts}]


def test_an_upgrade_takes_nothing_away_before_its_successor_is_ready(helm: Helm) -> None:
    for one in kinds(helm.template(LEAST), "Deployment"):
        if one["metadata"]["labels"]["app.kubernetes.io/component"] == "beat":
            assert one["spec"]["strategy"] == {"type": "Recreate"}
            continue
        assert one["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
        assert one["spec"]["replicas"] >= 2


def test_whoever_uses_the_database_waits_for_its_tables(helm: Helm) -> None:
    for name, pod in pods(helm.template(LEAST)).items():
        waits = [box["command"] for box in pod["spec"].get("initContainers", [])]
        expected = [["python", "manage.py", "prepare", "--only-wait"]] if name in {"web", "worker", "operator"} else []
        assert waits == expected


def test_a_job_that_would_do_something_else_has_another_name(helm: Helm) -> None:
    names = set()
    for tag in ("1", "1", "2"):
        (job,) = kinds(helm.template(_with("image.tag", tag)), "Job")
        names.add(job["metadata"]["name"])
    assert len(names) == 2


def test_the_autoscaler_alone_says_how_many(helm: Helm) -> None:
    objects = helm.template(EVERYTHING)
    (web,) = [one for one in kinds(objects, "Deployment") if one["metadata"]["name"] == "slipway-web"]
    assert "replicas" not in web["spec"]
    (scaler,) = kinds(objects, "HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"]["name"] == "slipway-web"


def test_what_the_readme_says_to_install_can_be_installed(helm: Helm) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    values = yaml.safe_load(text.partition("cat > values.yaml <<EOF\n")[2].partition("\nEOF")[0])
    assert kinds(helm.template(values), "Deployment", "Ingress")
    lasting = {**values, "trial": {"enabled": False}, "database": {"existingSecret": "slipway-database"}}
    assert not kinds(helm.template({**lasting, "redis": {"existingSecret": "slipway-redis"}}), "StatefulSet")


def test_two_releases_share_no_name(helm: Helm) -> None:
    one, other = (
        {(found["kind"], found["metadata"].get("namespace"), found["metadata"]["name"]) for found in objects}
        for objects in (helm.template(LEAST), helm.template(LEAST, name="second", namespace="elsewhere"))
    )
    assert not one & other
