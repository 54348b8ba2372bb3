"""How worker and beat are found to be alive from outside: each turn of the loop that does their work is a pulse.

A process that merely answers would not show that its loop stands still, after a broker came back, say.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import structlog
from celery import bootsteps
from celery.beat import PersistentScheduler
from django.core.exceptions import ImproperlyConfigured

from kernel import redis
from workspaces.operator.health import Answer, Listener

log = structlog.get_logger(__name__)

PULSE_SECONDS = 2.0
READY_WITHIN = 30.0
"""Seconds since the last pulse for which a process counts as ready."""
ALIVE_WITHIN = 120.0
"""Seconds without a pulse after which it is of no use any more."""


class Pulse:
    """When the work's loop last came round.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at = clock()
        self._ending = False

    def beat(self) -> None:
        """The loop has come round."""
        self._at = self._clock()

    def end(self) -> None:
        """The process finishes what it has and takes nothing new."""
        self._ending = True

    @property
    def age(self) -> float:
        """Seconds since the last one."""
        return self._clock() - self._at

    def ready(self) -> Answer:
        """Whether it works now."""
        if self._ending:
            return False, "ending\n"
        return self.age < READY_WITHIN, f"last turn of the loop {self.age:.0f} s ago\n"

    def healthy(self, broker_answers: Callable[[], bool]) -> Answer:
        """Whether a restart would be of no use: while the broker is away, the loop is right to wait."""
        if self._ending or self.age < ALIVE_WITHIN:
            return True, "ok\n"
        if not broker_answers():
            return True, "the broker is away\n"
        return False, f"the broker answers, and the loop has stood still for {self.age:.0f} s\n"


PULSE = Pulse()


class PulseStep(bootsteps.StartStopStep):
    """Part of a worker's consumer: has its loop say that it comes round."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._stop = threading.Event()

    def start(self, parent: Any) -> None:
        """Begin with each connection to the broker."""
        self._stop = stop = threading.Event()

        def ask() -> None:
            while not stop.wait(PULSE_SECONDS):
                # Done by the loop itself, between two waits for messages.
                parent.call_soon(PULSE.beat)

        threading.Thread(target=ask, name="pulse", daemon=True).start()

    def stop(self, parent: Any) -> None:
        """The connection has ended."""
        self._stop.set()


class Scheduler(PersistentScheduler):
    """Beat's scheduler, whose ticks are its pulse."""

    def tick(self, *arguments: Any, **options: Any) -> float:
        """See Celery."""
        PULSE.beat()
        seconds: float = super().tick(*arguments, **options)
        return seconds


def serve(address: str, redis_url: str) -> None:
    """Answer on `host:port` from now on; nowhere when it is empty.

    Raises:
        ImproperlyConfigured: nobody can listen there.
    """
    if not address:
        return
    PULSE.beat()
    try:
        listener = Listener(
            address,
            healthy=lambda: PULSE.healthy(lambda: redis.answers(redis_url)),
            ready=PULSE.ready,
            refresh=lambda: None,
        )
    except OSError as error:
        raise ImproperlyConfigured(f"SLIPWAY_PROBES_LISTEN is {address}: {error.strerror}") from error
    listener.start()
    log.info("probes_listening", address=address)
