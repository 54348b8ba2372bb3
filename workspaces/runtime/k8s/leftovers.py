"""What no workspace owns any more: found by label, noted on the cluster's own objects, and cleared away step by step.

A note counts seconds in which it was seen to belong to nobody. It holds no time of day, so no two clocks are compared.
"""

from __future__ import annotations

import math
from typing import Protocol

import structlog

from workspaces.runtime.errors import ClusterFault
from workspaces.runtime.k8s.client import Cluster, Object, Refusal
from workspaces.runtime.k8s.config import K8sConfig
from workspaces.runtime.k8s.faults import translated
from workspaces.runtime.k8s.names import INSTANCE, ORPHAN, WORKSPACE, Place, place, selector
from workspaces.runtime.operating import Found
from workspaces.runtime.port import Listed, Presence, Runtime

log = structlog.get_logger(__name__)

# What holds files: where one of these is, its namespace stays, whoever made it.
_HOLDS_FILES = ("PersistentVolumeClaim", "VolumeSnapshot")


class Keeper(Runtime, Protocol):
    """What is needed of the adapter."""

    def forget_walls(self, name: str) -> None:
        """Delete what stood around a workspace in a shared namespace."""
        ...


class Leftovers:
    """Orphans of one installation.

    Args:
        cluster: where.
        config: whose.
        runtime: the adapter, whose operations end runs.
    """

    def __init__(self, cluster: Cluster, config: K8sConfig, runtime: Keeper) -> None:
        self._cluster = cluster
        self._config = config
        self._runtime = runtime
        # Every workspace that ever had a pod has one of these, and it goes last.
        self._carrier = "Namespace" if config.layout == "own" else "ServiceAccount"

    def survey(self) -> list[Found]:
        """See `Operations`."""
        with translated("survey"):
            carriers = {}
            for one in self._cluster.all(self._carrier, self._config.namespace, labelSelector=selector(self._config)):
                carriers[one["metadata"]["labels"][WORKSPACE]] = one
        listed = {entry.name: entry for entry in self._runtime.list()}
        return [
            self._found(
                listed.get(name) or Listed(name, has_volume=False, presence=Presence.ABSENT), carriers.get(name)
            )
            for name in sorted(listed.keys() | carriers.keys())
        ]

    def _found(self, entry: Listed, carrier: Object | None) -> Found:
        noted = (carrier or {"metadata": {}})["metadata"].get("annotations", {}).get(ORPHAN)
        return Found(
            entry.name,
            has_volume=entry.has_volume,
            presence=entry.presence,
            orphan_seconds=None if noted is None else _seconds(noted),
            markable=carrier is not None and "deletionTimestamp" not in carrier["metadata"],
        )

    def mark(self, name: str, seconds: float | None) -> None:
        """See `Operations`."""
        at = place(self._config, name)
        with translated(f"mark {name}"):
            carrier = self._owned(at)
            if carrier is None:
                return
            noted = None if seconds is None else str(math.floor(seconds))
            # With the version that was read: of two processes that add the same time, one is refused.
            meta = {"annotations": {ORPHAN: noted}, "resourceVersion": carrier["metadata"]["resourceVersion"]}
            self._cluster.patch(self._carrier, self._within(at), self._carrier_name(at), {"metadata": meta})

    def clear(self, name: str) -> bool:
        """See `Operations`. The run first, politely; the walls around it only when it is gone."""
        at = place(self._config, name)
        self._runtime.stop(name, grace=self._config.stop_grace)
        seen = self._runtime.observe(name)
        if seen.presence not in {Presence.EXITED, Presence.ABSENT}:
            return False
        self._runtime.destroy_run(name)
        with translated(f"clear {name}"):
            if self._holds_files(at):
                return True
            if self._config.layout == "shared":
                self._runtime.forget_walls(name)
                return True
            carrier = self._owned(at)
            if carrier is None:
                return True
            if any(self._cluster.all("Pod", at.namespace)):
                raise ClusterFault(
                    "orphan_in_use",
                    "Something else still runs in the namespace of a workspace that nobody owns.",
                    "Look what it is, and remove it or the namespace.",
                    log_text=f"namespace {at.namespace} has pods",
                )
            if "deletionTimestamp" not in carrier["metadata"]:
                self._cluster.delete("Namespace", "", at.namespace, uid=carrier["metadata"]["uid"])
            return True

    def _holds_files(self, at: Place) -> bool:
        chosen = {} if self._config.layout == "own" else {"labelSelector": f"{WORKSPACE}={at.workspace}"}
        kinds = _HOLDS_FILES if self._config.snapshot_class else _HOLDS_FILES[:1]
        return any(self._some(kind, at, chosen) for kind in kinds)

    def _some(self, kind: str, at: Place, chosen: dict[str, str]) -> bool:
        try:
            return any(self._cluster.all(kind, at.namespace, **chosen))
        except Refusal as refusal:
            if refusal.not_found:  # The cluster does not know this kind.
                return False
            raise

    def _owned(self, at: Place) -> Object | None:
        """The object that carries the note, if it is there and ours."""
        found = self._cluster.get(self._carrier, self._within(at), self._carrier_name(at))
        labels = (found or {"metadata": {}})["metadata"].get("labels", {})
        return found if labels.get(INSTANCE) == at.instance and labels.get(WORKSPACE) == at.workspace else None

    def _within(self, at: Place) -> str:
        return "" if self._config.layout == "own" else at.namespace

    def _carrier_name(self, at: Place) -> str:
        return at.namespace if self._config.layout == "own" else at.name


def _seconds(noted: str) -> float:
    """The note's value; what is none counts from the beginning."""
    return float(noted) if noted.isascii() and noted.isdecimal() and len(noted) < 12 else 0.0
