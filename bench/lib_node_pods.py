"""When what happens to pods was seen: their status and events, watched while a benchmark runs.

The cluster notes its times in whole seconds. So what counts here is when this machine heard of a change.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.cluster.api import Api
from tests.support.waiting import eventually
from workspaces.runtime.k8s import podstatus
from workspaces.runtime.k8s.names import CONTAINER, RUN

Json = dict[str, Any]
Moments = dict[str, float]
_LIFE = 3600


class Pods:
    """Watches all pods of a cluster, and the events about them.

    Args:
        kubeconfig: of a user who may read both everywhere.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self._api = Api(kubeconfig)
        self._moments: dict[str, Moments] = {}
        self._uids: dict[tuple[str, str], str] = {}
        self._opened = [threading.Event(), threading.Event()]
        self._stopped = False

    @classmethod
    @contextlib.contextmanager
    def watched(cls, kubeconfig: Path) -> Iterator[Pods]:
        """It hears everything that happens from here to the end of the block."""
        found = cls(kubeconfig)
        works = (("/api/v1/pods", found._look), ("/api/v1/events", found._hear))
        for (path, take), opened in zip(works, found._opened, strict=True):
            threading.Thread(target=found._watch, args=(path, take, opened), daemon=True).start()
        try:
            eventually(lambda: all(one.is_set() for one in found._opened), what="both are watched")
            yield found
        finally:
            found._stopped = True

    def moments(self, name: str, run: int, wanted: tuple[str, ...]) -> Moments:
        """When a run's pod was "made", "scheduled", "placed", "copied" (the IDE), and its image "pulled".

        Seconds since the epoch. Waits until those that are wanted were seen; others may be missing.
        """

        def look() -> Moments | None:
            seen = self._moments.get(self._uids.get((name, str(run)), ""), {})
            return dict(seen) if seen.keys() >= set(wanted) else None

        found = eventually(look, what=f"{wanted} of {name}, run {run}, was seen")
        assert found is not None
        return found

    def _watch(self, path: str, take: Callable[[Json, float], None], opened: threading.Event) -> None:
        version = self._api.get(path).json()["metadata"]["resourceVersion"]
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": str(_LIFE)}
        try:
            with self._api.stream("GET", path, params=query, timeout=httpx.Timeout(10, read=_LIFE)) as said:
                opened.set()
                for line in said.iter_lines():
                    event = json.loads(line)
                    if event["type"] in {"ADDED", "MODIFIED"}:
                        take(event["object"], time.time())
        except httpx.HTTPError:
            if not self._stopped:
                raise

    def _look(self, pod: Json, now: float) -> None:
        meta, status = pod["metadata"], pod["status"]
        seen = self._moments.setdefault(meta["uid"], {})
        self._uids[meta["name"], meta.get("labels", {}).get(RUN, "")] = meta["uid"]
        seen.setdefault("made", now)
        for kind, word in (("PodScheduled", "scheduled"), ("PodReadyToStartContainers", "placed")):
            if podstatus.condition(status, kind).get("status") == "True":
                seen.setdefault(word, now)
        if any(podstatus.state(one, "terminated") for one in status.get("initContainerStatuses", ())):
            seen.setdefault("copied", now)

    def _hear(self, event: Json, now: float) -> None:
        about = event["involvedObject"]
        if event["reason"] == "Pulled" and about.get("fieldPath") == f"spec.containers{{{CONTAINER}}}":
            self._moments.setdefault(about["uid"], {}).setdefault("pulled", now)
