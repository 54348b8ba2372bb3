"""How a run begins: its walls, what it is handed, and then its pod."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from workspaces.runtime.errors import PlatformFault
from workspaces.runtime.k8s import faults
from workspaces.runtime.k8s.client import Cluster, Object, Refusal
from workspaces.runtime.k8s.config import Delivery, K8sConfig
from workspaces.runtime.k8s.delivery import Detector
from workspaces.runtime.k8s.manifests import network, walls
from workspaces.runtime.k8s.manifests import pod as pods
from workspaces.runtime.k8s.manifests.parts import Manifest
from workspaces.runtime.k8s.names import POLICY, Place, labelled
from workspaces.runtime.port import RunSpec

log = structlog.get_logger(__name__)


class Launcher:
    """Makes all that a run needs; its namespace and its volume are there."""

    def __init__(self, cluster: Cluster, config: K8sConfig) -> None:
        self._cluster = cluster
        self._config = config
        self._detector = Detector(cluster)

    def walls(self, at: Place, spec: RunSpec) -> Sequence[Manifest]:
        """What keeps a workspace to itself, in the order in which it is made."""
        found = [*walls.account(at), *network.policies(self._config, at)]
        if self._config.backup is not None:
            found.append(network.job_policy(self._config, self._config.backup, at))
        if self._config.layout == "own":
            # One namespace for all has the quota that its admin gave it.
            found += [
                walls.quota(self._config, at, spec.limits),
                walls.limit_range(self._config, at, spec.limits),
            ]
        if self._config.pull_credentials is not None:
            found.append(pods.pull_secret(at, _text(self._config.pull_credentials)))
        return found

    def launch(self, at: Place, spec: RunSpec, look: Callable[[Place], Object | None]) -> Object:
        """Walls first, the pod last: nothing of the workspace runs before all of them stand.

        Args:
            look: finds the workspace's pod.

        Returns:
            The pod that is there then, which may be one that somebody else was faster to make.
        """
        stand = self.walls(at, spec)
        for manifest in stand:
            self._cluster.apply(manifest)
        self._close_what_is_not_asked_for(at, stand)
        self._cluster.apply(pods.secret(at, spec))
        self._config.on_step("walls_made")
        try:
            pod = self._cluster.create(pods.pod(self._config, at, spec, self._delivery(at, spec)))
        except Refusal as refusal:
            # Somebody else was first: theirs is compared with what is wanted, and never replaced. A quota may say so
            # before the name does, because it counts what is asked for before it is known to be there.
            there = look(at)
            if there is not None:
                return there
            if faults.is_about_quota(refusal, at.name):
                raise faults.catching_up(str(refusal)) from refusal
            raise
        self._config.on_step("pod_made")
        log.info("run_started", workspace=at.workspace, run=spec.run)
        return pod

    def _delivery(self, at: Place, spec: RunSpec) -> Delivery:
        """How the IDE image gets into this pod. Its walls must stand: the cluster is asked by the same pod."""
        config = self._config
        if config.delivery != "auto" or not config.ide_image or config.host_users is False:
            return config.delivery
        return self._detector.way(lambda: pods.pod(config, at, spec, "image_volume"))

    def _close_what_is_not_asked_for(self, at: Place, stand: Sequence[Manifest]) -> None:
        """Policies only add up: one of earlier settings would go on letting through what nobody wants any more."""
        wanted = [wall["metadata"]["labels"][POLICY] for wall in stand if wall["kind"] == "NetworkPolicy"]
        chosen = f"{labelled(at)},{POLICY},{POLICY} notin ({','.join(wanted)})"
        self._cluster.delete_all("NetworkPolicy", at.namespace, labels=chosen)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise PlatformFault(
            "runtime_misconfigured",
            "Workspaces cannot run here: the registry's credentials cannot be read.",
            "Ask the operator to correct the runtime's settings.",
            log_text=f"{path}: {error}",
        ) from error
