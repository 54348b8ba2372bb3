"""What a workspace has in a dev cluster: a namespace behind walls, and for each run an account of its own. Pure.

The account is what access hangs on. Whoever may write Secrets or make pods can get further tokens of it that last for
ever; all of them end when the account is deleted, and lose their rights when its binding is.
https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence

from workspaces.runtime.k8s.devcluster.config import DevConfig
from workspaces.runtime.k8s.manifests.network import DNS, peers_of, targets_of
from workspaces.runtime.k8s.manifests.parts import Manifest, manifest
from workspaces.runtime.k8s.names import MANAGED_BY
from workspaces.runtime.names import checked

# Not those of the workspace's own objects, which may be in the same cluster: nobody must take one for the other.
WORKSPACE = "slipway.dev/dev-workspace"
INSTANCE = "slipway.dev/dev-instance"
RUN = "slipway.dev/dev-run"
DIGEST = "slipway.dev/dev-digest"

_RBAC = "rbac.authorization.k8s.io"
_OURS = "slipway"


@dataclasses.dataclass(frozen=True, slots=True)
class DevPlace:
    """Where a workspace's objects are.

    Attributes:
        workspace: its name.
        namespace: its own one.
        name: of each object that there is one of.
        instance: the installation that they belong to.
    """

    workspace: str
    namespace: str
    instance: str
    name: str = _OURS

    @property
    def labels(self) -> dict[str, str]:
        """On everything that belongs to the workspace."""
        return {MANAGED_BY: "slipway", INSTANCE: self.instance, WORKSPACE: self.workspace}

    def run_name(self, run: int) -> str:
        """Of a run's account and its binding."""
        return f"{self.name}-run-{run}"


def place(config: DevConfig, workspace: str) -> DevPlace:
    """Where a workspace's objects are. The same name always leads to the same place.

    Raises:
        PlatformFault: the name is no DNS label, or too long for one behind the prefix.
    """
    return DevPlace(workspace, checked(f"{config.prefix}{checked(workspace)}"), config.instance)


def selector(config: DevConfig) -> str:
    """Selects everything that belongs to any workspace of this installation."""
    return f"{INSTANCE}={config.instance},{WORKSPACE}"


def namespace(config: DevConfig, at: DevPlace) -> Manifest:
    """The namespace, in which the cluster enforces the standard for pods."""
    standard = {
        f"pod-security.kubernetes.io/{mode}{suffix}": value
        for mode in ("enforce", "warn")
        for suffix, value in (("", config.pod_security), ("-version", "latest"))
    }
    meta = {"name": at.namespace, "labels": {**at.labels, **standard}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}


def walls(config: DevConfig, at: DevPlace) -> list[Manifest]:
    """What is the same for all runs."""
    found = policies(config, at)
    if config.quota:
        found.append(manifest("ResourceQuota", "v1", at, spec={"hard": dict(config.quota)}))
    limits = {"default": config.limits.default, "defaultRequest": config.limits.request, "max": config.limits.max}
    item = {key: dict(quantities) for key, quantities in limits.items() if quantities}
    if item:
        found.append(manifest("LimitRange", "v1", at, spec={"limits": [{"type": "Container", **item}]}))
    if not isinstance(config.role, str):
        found.append(manifest("Role", f"{_RBAC}/v1", at, rules=[dict(rule) for rule in config.role]))
    return found


def binding(config: DevConfig, at: DevPlace, run: int) -> Manifest:
    """What the account of a run may do."""
    kind, name = ("ClusterRole", config.role) if isinstance(config.role, str) else ("Role", at.name)
    return manifest(
        "RoleBinding",
        f"{_RBAC}/v1",
        at,
        name=at.run_name(run),
        labels={RUN: str(run)},
        roleRef={"apiGroup": _RBAC, "kind": kind, "name": name},
        subjects=[{"kind": "ServiceAccount", "name": at.run_name(run), "namespace": at.namespace}],
    )


def account(config: DevConfig, at: DevPlace, run: int) -> Manifest:
    """Who the workspace is in this run. To be made last: its digest says that everything else is there."""
    return manifest(
        "ServiceAccount",
        "v1",
        at,
        name=at.run_name(run),
        labels={RUN: str(run)},
        annotations={DIGEST: digest(config, at)},
        automountServiceAccountToken=False,
    )


def digest(config: DevConfig, at: DevPlace) -> str:
    """Changes when the settings give a namespace another shape."""
    shape = [namespace(config, at), *walls(config, at), binding(config, at, 0)]
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:16]


def policies(config: DevConfig, at: DevPlace) -> list[Manifest]:
    """Who pods in the namespace may talk to: each other, whoever answers names, and what the settings say.

    Other namespaces are closed, in both directions. Policies only ever add up.
    """
    own: Sequence[Manifest] = [{"podSelector": {}}]
    found = [
        _policy(at, "closed"),
        _policy(at, "inside", ingress=[{"from": own}], egress=[{"to": own}]),
    ]
    if names := peers_of(config.dns):
        found.append(_policy(at, "names", egress=[{"to": names, "ports": DNS}]))
    if targets := targets_of(config.egress, config.allowed, config.closed):
        found.append(_policy(at, "egress", egress=[{"to": targets}]))
    if visitors := [found_peer for peer in config.ingress for found_peer in peers_of(peer)]:
        found.append(_policy(at, "ingress", ingress=[{"from": visitors}]))
    return found


def _policy(at: DevPlace, suffix: str, **rules: Sequence[Manifest]) -> Manifest:
    types = [kind.capitalize() for kind in rules] or ["Ingress", "Egress"]
    spec: Manifest = {"podSelector": {}, "policyTypes": types, **{kind: list(rule) for kind, rule in rules.items()}}
    return manifest("NetworkPolicy", "networking.k8s.io/v1", at, name=f"{at.name}-{suffix}", spec=spec)
