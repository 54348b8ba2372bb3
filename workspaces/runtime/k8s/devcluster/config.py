"""What an administrator says of a dev cluster, and how it is read from settings."""

from __future__ import annotations

import dataclasses
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from workspaces.runtime.errors import PlatformFault
from workspaces.runtime.k8s.config import KUBE_DNS, Egress, Peer, check_network
from workspaces.runtime.k8s.settings import mistake

Rule = Mapping[str, Any]
PodSecurity = Literal["baseline", "restricted"]

_READ = ("get", "list", "watch")
_ALL = (*_READ, "create", "update", "patch", "delete", "deletecollection")
_RBAC = "rbac.authorization.k8s.io"
# With these a developer could make an account of their own, whose access does not end with the run.
_LASTING_VERBS = frozenset({"bind", "escalate", "impersonate", "*"})
_LASTING_ROLES = frozenset({"admin", "cluster-admin"})


def _rule(group: str, resources: str, verbs: tuple[str, ...]) -> Rule:
    return MappingProxyType({"apiGroups": [group], "resources": resources.split(), "verbs": list(verbs)})


# What people deploy, and how they look into it. Left out on purpose: what would lift the walls (roles and their
# bindings, quotas, limits, network policies), and ingresses, which could take over another's host name.
DEVELOPER: tuple[Rule, ...] = (
    _rule("", "pods services configmaps secrets persistentvolumeclaims", _ALL),
    _rule("", "pods/log pods/status events endpoints resourcequotas limitranges serviceaccounts namespaces", _READ),
    _rule("", "pods/exec pods/attach pods/portforward", ("get", "create")),
    _rule("", "pods/ephemeralcontainers", ("get", "patch", "update")),
    _rule("", "pods/eviction", ("create",)),
    _rule("apps", "deployments statefulsets daemonsets replicasets", _ALL),
    _rule("apps", "deployments/scale statefulsets/scale replicasets/scale", ("get", "patch", "update")),
    _rule("apps", "deployments/status statefulsets/status daemonsets/status controllerrevisions", _READ),
    _rule("batch", "jobs cronjobs", _ALL),
    _rule("batch", "jobs/status cronjobs/status", _READ),
    _rule("autoscaling", "horizontalpodautoscalers", _ALL),
    _rule("policy", "poddisruptionbudgets", _ALL),
    _rule("discovery.k8s.io", "endpointslices", _READ),
    _rule("events.k8s.io", "events", _READ),
    _rule("networking.k8s.io", "networkpolicies ingresses", _READ),
    _rule("metrics.k8s.io", "pods", _READ),
)
QUOTA: Mapping[str, str] = MappingProxyType(
    {
        "requests.cpu": "4",
        "requests.memory": "8Gi",
        "limits.cpu": "8",
        "limits.memory": "16Gi",
        "requests.storage": "20Gi",
        "persistentvolumeclaims": "5",
        "pods": "30",
        "configmaps": "200",
        "secrets": "200",
        "services": "50",
        # These open a port to the world, or cost money.
        "services.loadbalancers": "0",
        "services.nodeports": "0",
    }
)


@dataclasses.dataclass(frozen=True, slots=True)
class ContainerLimits:
    """What a container that says nothing gets (`default`, `request`), and the most that one may ask for (`max`)."""

    default: Mapping[str, str] = dataclasses.field(default_factory=dict)
    request: Mapping[str, str] = dataclasses.field(default_factory=dict)
    max: Mapping[str, str] = dataclasses.field(default_factory=dict)


LIMITS = ContainerLimits(
    default=MappingProxyType({"cpu": "500m", "memory": "512Mi"}),
    request=MappingProxyType({"cpu": "50m", "memory": "128Mi"}),
    max=MappingProxyType({"cpu": "4", "memory": "8Gi"}),
)


@dataclasses.dataclass(frozen=True, slots=True)
class DevConfig:
    """A dev cluster, and what each workspace gets in it.

    Attributes:
        server: the API server's https address, as workspaces reach it.
        certificate_authority: path of a file in PEM that workspaces trust it by; None: publicly trusted.
        kubeconfig: path of Slipway's own access to it; None: the service account of the pod that this process runs in.
            It never leaves the platform.
        instance: tells the objects of this installation from another's in the same cluster; a DNS label.
        prefix: begins the names of namespaces, before the workspace's own name.
        role: what a developer may do in the namespace: rules, or the name of a ClusterRole that is there.
        quota: as in a ResourceQuota; empty for none.
        limits: of each container.
        pod_security: the standard that the cluster enforces in the namespaces.
        egress: what pods there reach beside each other and the cluster's names: nothing, `allowed`, or the internet
            and `allowed`.
        allowed: CIDR blocks.
        closed: further CIDR blocks that "internet" leaves out.
        dns: who answers names.
        ingress: who may connect to pods there, beside each other.
        audiences: whom tokens are for; empty: the API server itself.
        token_seconds: how long a token is good for, 600 to 3600. One that was stolen is of no use for longer, even if
            nobody ended its access.
        connect_seconds, read_seconds: for one request to the API server.
    """

    server: str
    certificate_authority: Path | None = None
    kubeconfig: Path | None = None
    instance: str = "slipway"
    prefix: str = "dev-"
    role: str | tuple[Rule, ...] = DEVELOPER
    quota: Mapping[str, str] = dataclasses.field(default_factory=lambda: QUOTA)
    limits: ContainerLimits = LIMITS
    pod_security: PodSecurity = "baseline"
    egress: Egress = "internet"
    allowed: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    dns: Peer = KUBE_DNS
    ingress: tuple[Peer, ...] = ()
    audiences: tuple[str, ...] = ()
    token_seconds: int = 900
    connect_seconds: float = 3.0
    read_seconds: float = 5.0

    def __post_init__(self) -> None:
        _check_role(self.role)
        peers = (network for peer in (self.dns, *self.ingress) for network in peer.networks)
        try:
            for network in (*self.allowed, *self.closed, *peers):
                check_network(network)
        except PlatformFault as fault:
            raise invalid(fault.log_text) from fault

    def trusted(self) -> str:
        """The certificates that workspaces trust the server by, in PEM; empty where it is publicly trusted.

        Raises:
            PlatformFault: the file cannot be read, or is none.
        """
        if self.certificate_authority is None:
            return ""
        try:
            text = self.certificate_authority.read_text(encoding="ascii")
            ssl.create_default_context(cadata=text)
        except (OSError, ValueError, ssl.SSLError) as error:
            raise invalid(f"`certificate_authority` {self.certificate_authority}: {error}") from error
        return text


def _check_role(role: str | tuple[Rule, ...]) -> None:
    """A role that hands out rights would outlive every revocation."""
    if isinstance(role, str):
        if role in _LASTING_ROLES:
            raise invalid(f"`role`: {role} may hand out rights that do not end with a workspace's run. Take `edit`.")
        return
    for rule in role:
        groups, verbs = set(rule["apiGroups"]), set(rule["verbs"])
        if verbs & _LASTING_VERBS or (groups & {_RBAC, "*"} and verbs - set(_READ)):
            raise invalid(
                "`role`: rules name their verbs and groups, and do not write roles or their bindings, bind, escalate or"
                f" impersonate: such access would not end with a workspace's run. This one may: {dict(rule)}"
            )


_SCHEMA = json.loads(Path(__file__).with_name("options.schema.json").read_text(encoding="utf-8"))
_PATHS = {"kubeconfig", "certificate_authority"}
_TUPLES = {"allowed", "closed", "audiences"}


def read_options(options: Mapping[str, Any]) -> DevConfig:
    """A config from plain values, as they stand in JSON or YAML; `options.schema.json` says which.

    Raises:
        PlatformFault: an option is unknown, missing or makes no sense; the log text says which.
    """
    if wrong := mistake(options, _SCHEMA):
        raise invalid(wrong)
    return DevConfig(**{key: _value(key, value) for key, value in options.items()})


def _value(key: str, value: Any) -> Any:
    if key in _PATHS:
        return Path(value) if value else None
    if key in _TUPLES or (key == "role" and isinstance(value, list)):
        return tuple(value)
    if key == "limits":
        return ContainerLimits(**{name: _quantities(given) for name, given in value.items()})
    if key == "quota":
        return _quantities(value)
    if key == "dns":
        return _peer(value)
    if key == "ingress":
        return tuple(_peer(one) for one in value)
    return value


def _quantities(given: Mapping[str, str | int]) -> dict[str, str]:
    """YAML has numbers where the API wants text."""
    return {name: str(value) for name, value in given.items()}


def _peer(value: Mapping[str, Any]) -> Peer:
    return Peer(**{**value, "networks": tuple(value.get("networks", ()))})


def invalid(detail: str) -> PlatformFault:
    """The settings of the dev cluster make no sense; `detail` says for the log what is wrong."""
    return PlatformFault(
        "dev_cluster_misconfigured",
        "The dev cluster is not set up correctly.",
        "Ask the operator to correct the dev cluster's settings.",
        log_text=detail,
    )
