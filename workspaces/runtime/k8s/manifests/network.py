"""Who a workspace may talk to: nobody, and then one policy for each exception.

Policies only ever add up, so each of them can be read, and taken away, by itself.
https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from workspaces.runtime.k8s.config import CLOSED, Backup, Egress, K8sConfig, Peer
from workspaces.runtime.k8s.manifests.parts import Manifest, manifest
from workspaces.runtime.k8s.names import JOB, POLICY, WORKSPACE, Place

_API = "networking.k8s.io/v1"
DNS = [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]
_PORTS = {"http": 80, "https": 443}


def policies(config: K8sConfig, place: Place) -> list[Manifest]:
    """All of a workspace's policies."""
    found = [_policy(place, "closed")]
    door = [{"protocol": "TCP", "port": config.door_port}]
    if peers := peers_of(config.gateway):
        found.append(_policy(place, "gateway", ingress=[{"from": peers, "ports": door}]))
    if peers := peers_of(config.platform):
        found.append(_policy(place, "platform", egress=[{"to": peers, "ports": _platform_ports(config)}]))
    if peers := peers_of(config.dev_api):
        ports = [{"protocol": "TCP", "port": port} for port in config.dev_api_ports]
        found.append(_policy(place, "dev-api", egress=[{"to": peers, "ports": ports}]))
    if config.egress != "none":
        if peers := peers_of(config.dns):
            found.append(_policy(place, "names", egress=[{"to": peers, "ports": DNS}]))
        if targets := targets_of(config.egress, config.allowed, config.closed):
            found.append(_policy(place, "egress", egress=[{"to": targets}]))
    return found


def job_policy(config: K8sConfig, backup: Backup, place: Place) -> Manifest:
    """What the jobs that carry copies may talk to: names, and the registry. Nobody may talk to them."""
    host = urlsplit(f"//{backup.repository}")
    # Tokens for a registry are often given by somebody else, at the usual port.
    ports = sorted({host.port or _PORTS["http" if backup.insecure else "https"], _PORTS["https"]})
    to = peers_of(backup.network) or targets_of("internet", (), config.closed)
    egress: list[Manifest] = [{"to": to, "ports": [{"protocol": "TCP", "port": port} for port in ports]}]
    if peers := peers_of(config.dns):
        egress.append({"to": peers, "ports": DNS})
    spec: Manifest = {"podSelector": {"matchLabels": {JOB: place.workspace}}, "policyTypes": ["Ingress", "Egress"]}
    labels = {POLICY: "jobs"}
    spec = {**spec, "egress": egress}
    return manifest("NetworkPolicy", _API, place, name=f"{place.name}-jobs", labels=labels, spec=spec)


def _policy(
    place: Place, suffix: str, *, ingress: Sequence[Manifest] = (), egress: Sequence[Manifest] = ()
) -> Manifest:
    spec: Manifest = {"podSelector": {"matchLabels": {WORKSPACE: place.workspace}}}
    if ingress:
        spec |= {"policyTypes": ["Ingress"], "ingress": list(ingress)}
    elif egress:
        spec |= {"policyTypes": ["Egress"], "egress": list(egress)}
    else:
        # In a namespace of its own, whatever else is ever started there is shut in as well.
        own = place.namespace == place.name
        spec = {"podSelector": {} if own else spec["podSelector"], "policyTypes": ["Ingress", "Egress"]}
    labels = {POLICY: suffix}
    return manifest("NetworkPolicy", _API, place, name=f"{place.name}-{suffix}", labels=labels, spec=spec)


def peers_of(peer: Peer) -> list[Manifest]:
    """Who this is, as policies say it; empty for nobody."""
    found: list[Manifest] = [{"ipBlock": {"cidr": network}} for network in peer.networks]
    if peer.namespace or peer.pods:
        pods: Manifest = {"namespaceSelector": {"matchLabels": dict(peer.namespace)}}
        if peer.pods:
            pods["podSelector"] = {"matchLabels": dict(peer.pods)}
        found.append(pods)
    return found


def _platform_ports(config: K8sConfig) -> list[Manifest]:
    parts = urlsplit(config.platform_url)
    port = parts.port or _PORTS.get(parts.scheme)
    return [{"protocol": "TCP", "port": port}] if port else []


def targets_of(egress: Egress, allowed: Sequence[str], closed: Sequence[str]) -> list[Manifest]:
    """Where connections may go by a profile of `K8sConfig.egress`, as policies say it; empty for nowhere."""
    if egress == "none":
        return []
    targets: list[Manifest] = [{"ipBlock": {"cidr": network}} for network in allowed]
    if egress == "internet":
        shut = [*CLOSED, *closed]
        for everything in ("0.0.0.0/0", "::/0"):
            version = ipaddress.ip_network(everything).version
            # The standard calls an exception that is not inside the block an error.
            without = [network for network in shut if ipaddress.ip_network(network).version == version]
            targets.append({"ipBlock": {"cidr": everything, "except": without}})
    return targets
