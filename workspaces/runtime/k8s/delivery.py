"""Whether the cluster can mount the IDE's image into a pod; where it cannot, an init container copies it.

The API server is asked to make such a pod for trial: one that does not know image volumes, or has them switched off,
drops the field in silence, and the pod would find an empty folder. Nodes are looked at as well, because the API server
accepts what an older container runtime cannot do. https://kubernetes.io/docs/tasks/configure-pod-container/image-volumes/
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import Literal

import structlog

from workspaces.runtime.k8s.client import Cluster, Object, Refusal

log = structlog.get_logger(__name__)

Way = Literal["image_volume", "init"]

KEPT_SECONDS = 600.0
"""How long an answer holds: clusters are upgraded, and nodes come and go."""

# The first versions that mount images.
_LEAST = {"containerd": (2, 1), "cri-o": (1, 31)}
_RUNTIME = re.compile(r"([a-z-]+)://v?(\d+)\.(\d+)")


class Detector:
    """Finds out, and remembers the answer for a while. Safe to use from several threads.

    Args:
        now: a clock in seconds that only goes forward.
    """

    def __init__(self, cluster: Cluster, now: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._now = now
        self._known: tuple[Way, float] | None = None

    def way(self, trial: Callable[[], Object]) -> Way:
        """How the IDE's image gets into pods here.

        Args:
            trial: makes a pod with an image volume, in a namespace that is there.

        Raises:
            Refusal: such a pod must not be made for another reason, a quota for example. That is no answer.
            ClusterFault: nor is it when the API server is away.
        """
        known = self._known
        if known is not None and self._now() < known[1]:
            return known[0]
        way: Way = "image_volume" if self._keeps_the_volume(trial()) and self._nodes_can() else "init"
        self._known = (way, self._now() + KEPT_SECONDS)
        log.info("ide_delivery_chosen", way=way)
        return way

    def _keeps_the_volume(self, pod: Object) -> bool:
        try:
            made = self._cluster.create(pod, trial=True)
        except Refusal as refusal:
            if refusal.status == 422:
                log.info("image_volumes_refused", detail=refusal.message)
                return False
            raise
        return any("image" in volume for volume in made["spec"]["volumes"])

    def _nodes_can(self) -> bool:
        """Whether there are nodes, and all can; not where we may not see them, as then nobody knows."""
        try:
            return can_mount(
                node["status"].get("nodeInfo", {}).get("containerRuntimeVersion", "") for node in self._nodes()
            )
        except Refusal as refusal:
            if refusal.status != 403:
                raise
            log.info("nodes_not_shown", detail=refusal.message)
            return False

    def _nodes(self) -> Iterable[Object]:
        return self._cluster.all("Node", labelSelector="kubernetes.io/os!=windows")


def can_mount(runtimes: Iterable[str]) -> bool:
    """Whether there are container runtimes, and each can mount images.

    Args:
        runtimes: as nodes report them, such as `containerd://2.2.1`.
    """
    found = [_RUNTIME.match(runtime) for runtime in runtimes]
    return bool(found) and all(
        one is not None and one[1] in _LEAST and (int(one[2]), int(one[3])) >= _LEAST[one[1]] for one in found
    )
