"""Watches a kind of object in the whole cluster: one list, then one stream of changes, as long as the process lives.

What it learns is only used to say *look at this workspace now*. It keeps no objects, and it answers no questions: who
wants to know asks the API server, so that a world that has stopped moving can never be taken for the real one.

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import contextlib
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
_LONGEST_PAUSE = 15.0


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


def _every(_: Object) -> bool:
    return True


class _Pause:
    """Time to let pass before the next try: more from try to try, and never the same for two watchers."""

    def __init__(self) -> None:
        self._seconds = _FIRST_PAUSE

    def next(self) -> float:
        """Seconds."""
        seconds, self._seconds = self._seconds, min(self._seconds * 2, _LONGEST_PAUSE)
        return seconds * random.uniform(0.5, 1.5)  # noqa: S311 - spreads load, guards nothing.

    def reset(self) -> None:
        """It worked."""
        self._seconds = _FIRST_PAUSE


class Watch:
    """One kind's list and watch. Run it in a thread of its own.

    Args:
        cluster: where.
        selection: what.
        ears: who is told.
        concerns: whether an object that the selectors let through is one to tell of; others are not remembered.
        silence: seconds without a word after which the stream is taken for broken.
        deaf_after: seconds without a word after which this watch says that it is deaf.
        clock: seconds that only grow.

    Attributes:
        synced: set once everything was listed for the first time.
        refused: the server's words while it does not let this process watch; empty otherwise.
    """

    def __init__(
        self,
        cluster: Cluster,
        selection: Selection,
        ears: Ears,
        *,
        concerns: Callable[[Object], bool] = _every,
        silence: float = SILENCE,
        deaf_after: float = DEAF_AFTER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._selection = selection
        self._ears = ears
        self._concerns = concerns
        self._silence = silence
        self._deaf_after = deaf_after
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[str, Object]] = {}
        self._version = ""
        self._heard_at = clock()
        # A server that is away, and one that is there and does not want us.
        self._away, self._unwanted = _Pause(), _Pause()
        self._stop = threading.Event()
        self._hang_up: Callable[[], None] = _nothing
        self.synced = threading.Event()
        self.refused = ""

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
        return self.age > self._deaf_after

    def stop(self) -> None:
        """Make `run` end: at once where it listens, after the request's time-out where it lists."""
        self._stop.set()
        # A stream that has just ended by itself has nothing to cut off.
        with contextlib.suppress(ValueError, RuntimeError, OSError):
            self._hang_up()

    def run(self) -> None:
        """List and watch until stopped. Never gives up: what does not answer is asked again, ever more slowly."""
        reason: RelistReason = "start"
        while not self._stop.is_set():
            try:
                if not self._version:
                    self._list(reason)
                    reason = "expired"
                if not self._listen():
                    self._stop.wait(self._unwanted.next())
            except Refusal as refusal:
                self._note_refusal(refusal)
                self._version = ""
                self._away.reset()
                self._stop.wait(self._unwanted.next())
            except ClusterFault as fault:
                if not self._stop.is_set():
                    log.warning("watch_broken", kind=self.kind, detail=fault.log_text)
                self._stop.wait(max(fault.retry_after or 0.0, self._away.next()))

    def _note_refusal(self, refusal: Refusal) -> None:
        """The versions that we know are history to the server (410); or it does not let us (any more)."""
        if refusal.status in {401, 403}:
            self.refused = str(refusal)
            log.error("watch_refused", kind=self.kind, detail=self.refused)
        else:
            log.info("watch_expired", kind=self.kind, reason=refusal.reason)

    def _list(self, reason: RelistReason) -> None:
        """Compare everything with what was known before: what differs is told, and so is what has vanished."""
        found: dict[tuple[str, str], Object] = {}
        more, version = "", ""
        while True:
            query = {**self._selection.query, **({"continue": more} if more else {})}
            page = self._cluster.page(self.kind, self._selection.namespace, limit=500, **query)
            self._hear()
            found |= {_key(one): one for one in page["items"] if self._concerns(one)}
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

    def _listen(self) -> bool:
        """Follow one stream to its end. Says whether anything came: after a mute one there is a pause."""
        heard = False
        chosen, seconds = self._selection, int(random.uniform(*_LIFE))  # noqa: S311 - spreads load, guards nothing.
        stream = self._cluster.watch(
            chosen.kind,
            chosen.namespace,
            version=self._version,
            seconds=seconds,
            silence=self._silence,
            opened=self._opened,
            **chosen.query,
        )
        for event in stream:
            heard = True
            self._hear()
            self._away.reset()
            # Only here: a stream that is refused after each list must not make for a list each second.
            self._unwanted.reset()
            found = event["object"]
            if event["type"] != "BOOKMARK" and self._concerns(found):
                self._tell(event["type"], found)
            self._version = found["metadata"]["resourceVersion"]
            if self._stop.is_set():
                break
        return heard

    def _opened(self, hang_up: Callable[[], None]) -> None:
        self._hang_up, self.refused = hang_up, ""
        if self._stop.is_set():
            hang_up()

    def _tell(self, what: str, found: Object) -> None:
        if what == "DELETED":
            self._known.pop(_key(found), None)
            self._ears.changed(self.kind, found)
        else:
            self._note(found)

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


def _nothing() -> None:
    """Before the first stream there is none to cut off."""


def _key(found: Object) -> tuple[str, str]:
    meta = found["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _reminder(found: Object) -> Object:
    """As little of an object as tells whose it was once it is gone."""
    meta = found["metadata"]
    return {
        "metadata": {"namespace": meta.get("namespace", ""), "name": meta["name"], "labels": meta.get("labels", {})}
    }
