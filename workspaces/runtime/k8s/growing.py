"""A volume grows with the settings. It never shrinks: no storage can do that without a copy."""

from __future__ import annotations

import structlog
from kubernetes.utils import parse_quantity

from workspaces.runtime.k8s import faults
from workspaces.runtime.k8s.client import Cluster, Object, Refusal
from workspaces.runtime.k8s.config import K8sConfig
from workspaces.runtime.k8s.manifests import walls
from workspaces.runtime.k8s.names import Place

log = structlog.get_logger(__name__)


def grow(cluster: Cluster, config: K8sConfig, place: Place, claim: Object) -> None:
    """Ask for the size that the settings say, if the claim asks for less. Done while a pod uses it.

    Raises:
        Refusal: its storage class does not let it grow.
        ClusterFault: "cluster_catching_up", temporary.
    """
    given = parse_quantity(claim["spec"]["resources"]["requests"]["storage"])  # type: ignore[no-untyped-call]
    if given >= config.volume_bytes:
        return
    wanted = walls.claim(config, place)["spec"]["resources"]
    if config.layout == "own":
        _make_room(cluster, place, wanted["requests"]["storage"])
    try:
        cluster.patch("PersistentVolumeClaim", place.namespace, place.name, {"spec": {"resources": wanted}})
    except Refusal as refusal:
        # The cluster goes on by what the quota said before, for a moment.
        if faults.is_about_quota(refusal, place.name):
            raise faults.catching_up(str(refusal)) from refusal
        raise
    log.info("volume_grown", workspace=place.workspace, bytes=config.volume_bytes)


def _make_room(cluster: Cluster, place: Place, storage: str) -> None:
    """The workspace's own quota must not be what is in the way. There is none before its first run."""
    try:
        cluster.patch("ResourceQuota", place.namespace, place.name, {"spec": {"hard": {"requests.storage": storage}}})
    except Refusal as refusal:
        if not refusal.not_found:
            raise
