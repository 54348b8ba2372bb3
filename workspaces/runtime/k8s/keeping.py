"""The logs of runs whose pods are gone: the end of each, compressed, in the workspace's own place.

The API server forgets a pod's log with the pod. What is kept is small on purpose: it lies in the cluster's database.
"""

from __future__ import annotations

import base64
import gzip

from workspaces.runtime.k8s.client import Cluster, Object
from workspaces.runtime.k8s.config import K8sConfig
from workspaces.runtime.k8s.manifests.parts import manifest
from workspaces.runtime.k8s.names import CONTAINER, RUN, WORKSPACE, Place

LONGEST = 262_144
"""Bytes kept of one run's log, before they are compressed."""

_KIND = "ConfigMap"
_KEY = "log.jsonl.gz"
_LABEL = "slipway.dev/log"


class Logs:
    """Logs of ended runs."""

    def __init__(self, cluster: Cluster, config: K8sConfig) -> None:
        self._cluster = cluster
        self._keep = config.keep_logs

    def keep(self, place: Place, pod: Object) -> None:
        """Keep the end of this pod's log, and of all logs the newest few. A pod that never wrote leaves none."""
        run = run_of(pod)
        text = self._cluster.logs(place.namespace, pod["metadata"]["name"], CONTAINER, limit=LONGEST)
        if run is None or not text:
            return
        data = base64.b64encode(gzip.compress(text, mtime=0)).decode("ascii")
        labels = {RUN: str(run), _LABEL: "true"}
        name = f"{place.run_name(run)}-log"
        self._cluster.apply(manifest(_KIND, "v1", place, name=name, labels=labels, binaryData={_KEY: data}))
        for old in self._kept(place)[: -self._keep]:
            meta = old["metadata"]
            self._cluster.delete(_KIND, place.namespace, meta["name"], uid=meta["uid"])

    def latest(self, place: Place) -> int | None:
        """The number of the last run of which a log was kept."""
        kept = self._kept(place)
        return run_of(kept[-1]) if kept else None

    def read(self, place: Place, run: int) -> bytes:
        """What was kept of a run's log; empty when there is nothing."""
        found = self._cluster.get(_KIND, place.namespace, f"{place.run_name(run)}-log")
        if found is None:
            return b""
        return gzip.decompress(base64.b64decode(found.get("binaryData", {}).get(_KEY, "")))

    def forget(self, place: Place) -> None:
        """Delete all of a workspace's logs."""
        for old in self._kept(place):
            self._cluster.delete(_KIND, place.namespace, old["metadata"]["name"], uid=old["metadata"]["uid"])

    def _kept(self, place: Place) -> list[Object]:
        selector = f"{_LABEL},{WORKSPACE}={place.workspace}"
        found = self._cluster.all(_KIND, place.namespace, labelSelector=selector)
        return sorted(found, key=lambda one: run_of(one) or 0)


def run_of(owned: Object) -> int | None:
    """The run that an object belongs to, as its label says."""
    text = owned["metadata"].get("labels", {}).get(RUN, "")
    return int(text) if text.isdigit() else None
