"""Watches a kind of object in the whole cluster: one list, then one stream of changes, as long as the process lives.

What it learns is only used to say *look at this workspace now*. It keeps no objects, and it answers no questions: who
wants to know asks the API server, so that a world that has stopped moving can never be taken for the real one.

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from collections.abc import Callable
from typing import Literal, Protocol

import structlog

from workspaces.runtime.errors import ClusterFault
from workspaces.runtime.k8s.client import Cluster, Object, Refusal

log = structlog.get_logger(__name__)

RelistReason = Literal["start", "expired"]
"""Why everything was listed."""

# The server sends a bookmark about once a minute, so this long a silence means that nobody is there any more.
SILENCE = 75.0
# After this long without a word, the process says that it is deaf.
DEAF_AFTER = 180.0
# A stream ends by itself after this long, so that many watchers do not come back all at once.
_LIFE = (240.0, 360.0)
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0


class Ears(Protocol):
    """Is told what a watch hears."""

    def changed(self, kind: str, found: Object) -> None:
        """An object is new, has changed, or is gone. The same change may be told more than once."""
        ...

    def listed(self, kind: str, reason: RelistReason, count: int) -> None:
        """Everything was listed, and was told as changed where it differs from what was known."""
        ...

    def heard(self, kind: str, age: float) -> None:
        """Something came, be it only a bookmark; `age` is how many seconds after the word before."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """What is watched: a kind, in one namespace or in all, and the selectors that its objects match."""

    kind: str
    namespace: str = ""
    labels: str = ""
    fields: str = ""

    @property
    def query(self) -> dict[str, str]:
        """As the API server takes it."""
        words = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {name: value for name, value in words.items() if value}


class Watch:
    """One kind's list and watch. Run it in a thread of its own.

    Args:
        cluster: where.
        selection: what.
        ears: who is told.
        silence: seconds without a word after which the stream is taken for broken.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        cluster: Cluster,
        selection: Selection,
        ears: Ears,
        *,
        silence: float = SILENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._selection = selection
        self._ears = ears
        self._silence = silence
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[str, Object]] = {}
        self._version = ""
        self._heard_at = clock()
        self._stop = threading.Event()
        self.synced = threading.Event()

    @property
    def kind(self) -> str:
        """What is watched."""
        return self._selection.kind

    @property
    def age(self) -> float:
        """Seconds since the last word from the server."""
        return self._clock() - self._heard_at

    @property
    def deaf(self) -> bool:
        """Whether nothing has been heard for so long that this process is of no use."""
        return self.age > DEAF_AFTER

    def stop(self) -> None:
        """Make `run` end, at the latest when the present stream says something or is silent too long."""
        self._stop.set()

    def run(self) -> None:
        """List and watch until stopped. Never gives up: what does not answer is asked again, ever more slowly."""
        pause = _FIRST_PAUSE
        reason: RelistReason = "start"
        while not self._stop.is_set():
            try:
                if not self._version:
                    self._list(reason)
                self._listen()
                pause = _FIRST_PAUSE
            except Refusal as refusal:
                # The versions that we know are history to the server (410), or it never knew them.
                log.info("watch_expired", kind=self.kind, reason=refusal.reason)
                self._version, reason = "", "expired"
                self._stop.wait(pause * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load, guards nothing.
                pause = min(pause * 2, _LONGEST_PAUSE)
            except ClusterFault as fault:
                log.warning("watch_broken", kind=self.kind, detail=fault.log_text)
                self._stop.wait(max(fault.retry_after or 0.0, pause * random.uniform(0.5, 1.5)))  # noqa: S311
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _list(self, reason: RelistReason) -> None:
        """Compare everything with what was known before: what differs is told, and so is what has vanished."""
        found: dict[tuple[str, str], Object] = {}
        more, version = "", ""
        while True:
            query = {**self._selection.query, **({"continue": more} if more else {})}
            page = self._cluster.page(self.kind, self._selection.namespace, limit=500, **query)
            self._hear()
            found |= {_key(one): one for one in page["items"]}
            more, version = page["metadata"].get("continue", ""), page["metadata"]["resourceVersion"]
            if not more:
                break
        for gone in self._known.keys() - found.keys():
            self._ears.changed(self.kind, self._known.pop(gone)[1])
        for one in found.values():
            self._note(one)
        self._version = version
        self._ears.listed(self.kind, reason, len(found))
        self.synced.set()

    def _listen(self) -> None:
        chosen, seconds = self._selection, int(random.uniform(*_LIFE))  # noqa: S311 - spreads load, guards nothing.
        stream = self._cluster.watch(
            chosen.kind, chosen.namespace, version=self._version, seconds=seconds, silence=self._silence, **chosen.query
        )
        for event in stream:
            self._hear()
            found = event["object"]
            if event["type"] == "DELETED":
                self._known.pop(_key(found), None)
                self._ears.changed(self.kind, found)
            elif event["type"] != "BOOKMARK":
                self._note(found)
            self._version = found["metadata"]["resourceVersion"]
            if self._stop.is_set():
                return

    def _note(self, found: Object) -> None:
        meta = found["metadata"]
        known = self._known.get(_key(found))
        if known is None or known[0] != meta["resourceVersion"]:
            self._known[_key(found)] = (meta["resourceVersion"], _reminder(found))
            self._ears.changed(self.kind, found)

    def _hear(self) -> None:
        now = self._clock()
        self._ears.heard(self.kind, now - self._heard_at)
        self._heard_at = now


def _key(found: Object) -> tuple[str, str]:
    meta = found["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _reminder(found: Object) -> Object:
    """As little of an object as tells whose it was once it is gone."""
    meta = found["metadata"]
    return {
        "metadata": {"namespace": meta.get("namespace", ""), "name": meta["name"], "labels": meta.get("labels", {})}
    }
