"""The operator's process: it hears what changes in the cluster, and has the worker look there at once.

Nothing depends on it but speed: the sweep finds what it missed. Several may run; one leads, by a Lease, and acts.
"""

from __future__ import annotations

import random
import secrets
import socket
import threading
from collections.abc import Callable, Sequence

import structlog

from kernel import observe
from workspaces.operator.health import Answer, Listener
from workspaces.operator.nudging import Nudger, Waiting
from workspaces.operator.orphans import EVERY, Collector
from workspaces.runtime.operating import RENEW_EVERY, Operable, Operations, WatchState

log = structlog.get_logger(__name__)

_TICK = 1.0
_STOP_SECONDS = 5.0


class Unexpected(Exception):
    """A part of the process ended though nobody had told it to."""


def identity() -> str:
    """A name that no other process has, on this machine or another."""
    return f"{socket.gethostname()[:60]}-{secrets.token_hex(6)}"


class _Ears:
    """Takes down what the watches say."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting

    def changed(self, name: str) -> None:
        """See `Told`."""
        self._add(name, words=False)

    def said(self, name: str) -> None:
        """See `Told`."""
        self._add(name, words=True)

    def _add(self, name: str, *, words: bool) -> None:
        if not self._waiting.add(name, words=words):
            observe.NUDGES_DROPPED.inc()

    def heard(self, kind: str, age: float) -> None:
        """See `Told`."""

    def listed(self, kind: str, reason: str, count: int) -> None:
        """See `Told`."""
        observe.RELISTS.labels(kind, reason).inc()
        log.info("listed", kind=kind, reason=reason, count=count)


class Operator:
    """The process's parts.

    Args:
        make: builds the operations of a process from its name and who is told; `Operable.operations`.
        listen: host:port of the probes and metrics.
        grace: see `Collector`.
        every: seconds between two looks at everything, on average.

    Raises:
        OSError: nobody can listen there.
    """

    def __init__(
        self,
        make: Callable[[str, _Ears], Operations],
        *,
        listen: str,
        grace: float,
        every: float = EVERY,
    ) -> None:
        self.identity = identity()
        self._stop = threading.Event()
        self._failed = False
        self._every = every
        self.waiting = Waiting()
        self.operations = make(self.identity, _Ears(self.waiting))
        self._nudger = Nudger(self.waiting, lambda: self.operations.leads, self._stop)
        self._collector = Collector(self.operations, grace=grace)
        self.listener = Listener(listen, healthy=self.healthy, ready=self.ready, refresh=self.refresh)

    def run(self, wait: Callable[[float], bool]) -> None:
        """Work until told to end.

        Args:
            wait: waits for so many seconds, or until the process is to end; says whether it is.

        Raises:
            Unexpected: a part ended by itself.
        """
        log.info("operator_started", identity=self.identity, port=self.listener.port)
        parts = [
            threading.Thread(target=self._part, args=(work,), name=work.__name__, daemon=True)
            for work in (self._lead, self._pass_on, self._collect)
        ]
        self.listener.start()
        self.operations.start()
        for part in parts:
            part.start()
        try:
            while not self._stop.is_set() and not wait(_TICK):
                self.refresh()
                if not all(watch.alive for watch in self.operations.watches()):
                    self._failed = True
                    break
        finally:
            self._end(parts)
        if self._failed:
            raise Unexpected("a part of the operator ended by itself; the log says why")

    def _end(self, parts: Sequence[threading.Thread]) -> None:
        """First everything that acts, then the lead, so that there are never two who act."""
        self._stop.set()
        for part in parts:
            part.join(_STOP_SECONDS)
        self.operations.release()
        self.operations.stop()
        self.listener.stop()
        log.info("operator_ended", identity=self.identity)

    def _part(self, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            if not self._stop.is_set():
                self._failed = True
                self._stop.set()

    def _lead(self) -> None:
        before = False
        while not self._stop.is_set():
            leads = self.operations.hold()
            if leads != before:
                log.info("lead_taken" if leads else "lead_lost", identity=self.identity)
            before = leads
            self._stop.wait(RENEW_EVERY)

    def _pass_on(self) -> None:
        self._nudger.run()

    def _collect(self) -> None:
        """The first look comes with the lead, and finds what changed before anybody heard of it."""
        pause = 0.0
        while not self._stop.wait(_TICK):
            pause -= _TICK
            if not self.operations.leads:
                self._collector.forget()
                pause = 0.0
            elif pause <= 0:
                self._collector.look()
                pause = self._every * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing.

    def healthy(self) -> Answer:
        """Whether a restart would not help: every watch hears something now and then."""
        watches = self.operations.watches()
        return all(watch.alive and not watch.deaf for watch in watches), _lines(watches)

    def ready(self) -> Answer:
        """Whether it knows what there is. It need not lead for that."""
        watches = self.operations.watches()
        lead = "leads" if self.operations.leads else "follows"
        refused = f"Lease refused: {self.operations.lease_refused}\n" if self.operations.lease_refused else ""
        return all(watch.synced for watch in watches), f"{self.identity} {lead}\n{refused}{_lines(watches)}"

    def refresh(self) -> None:
        """Bring the metrics up to date."""
        for watch in self.operations.watches():
            observe.LAST_EVENT_AGE.labels(watch.kind).set(watch.age)
        observe.LEADER.set(self.operations.leads)
        observe.NUDGES_WAITING.set(len(self.waiting))


def _lines(watches: Sequence[WatchState]) -> str:
    return "".join(f"{watch.kind}: {_words(watch)}\n" for watch in watches)


def _words(watch: WatchState) -> str:
    """How a watch is, in words."""
    if watch.refused:
        return f"refused: {watch.refused}"
    state = "synced" if watch.synced else "not synced"
    return f"{state}, {'deaf' if watch.deaf else 'heard'} {watch.age:.0f} s ago"


__all__ = ["Operable", "Operator", "Unexpected", "identity"]
