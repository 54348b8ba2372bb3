"""From a change that was heard of to a worker that looks: each workspace once, however much is said about it."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping

import structlog
from django.db import InterfaceError, OperationalError, close_old_connections
from django.db.models import Q
from django.utils import timezone

from kernel import jobs, observe
from workspaces.models import Workspace
from workspaces.operator.sweep import batches
from workspaces.states import State

log = structlog.get_logger(__name__)

WINDOW = 0.1
"""Seconds for which changes are gathered: what one workspace goes through in that time is one nudge."""
LIMIT = 20_000
# A process that does not lead remembers what it heard for longer than a dead leader may go unnoticed.
KEEP = 45.0
_FOLLOW = 0.3
_MOST_AT_ONCE = 2_000
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 15.0


@dataclasses.dataclass(frozen=True, slots=True)
class Heard:
    """What was heard of one workspace.

    Attributes:
        at: when the first of it was heard, by the clock of `Waiting`.
        words: whether something was only said about it, and nothing of it changed.
    """

    at: float
    words: bool = False


class Waiting:
    """Names of workspaces that were heard of, each once, until that was passed on.

    Args:
        limit: how many are kept; further ones are left to the sweep.
        clock: seconds that only grow.
    """

    def __init__(self, *, limit: int = LIMIT, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._heard: dict[str, Heard] = {}
        self._lock = threading.Lock()
        self._some = threading.Event()

    def __len__(self) -> int:
        return len(self._heard)

    def add(self, name: str, *, words: bool = False) -> bool:
        """Note a change, or only words about it. Says False when there is no room for it."""
        with self._lock:
            before = self._heard.get(name)
            if before is None and len(self._heard) >= self._limit:
                return False
            if before is None or before.words:
                self._heard[name] = Heard(self._clock() if before is None else before.at, words)
            self._some.set()
            return True

    def wait(self, seconds: float) -> bool:
        """Wait until there is something; says whether there is."""
        return self._some.wait(seconds)

    def take(self, most: int) -> dict[str, Heard]:
        """Take out up to `most` names, those that have waited longest, with what was heard."""
        with self._lock:
            taken = {name: self._heard[name] for name in list(self._heard)[:most]}
            for name in taken:
                del self._heard[name]
            self._mind()
            return taken

    def put_back(self, taken: Mapping[str, Heard]) -> None:
        """What could not be passed on goes to the front again."""
        with self._lock:
            since, self._heard = self._heard, {**taken}
            for name, heard in since.items():
                before = taken.get(name, heard)
                self._heard[name] = Heard(before.at, before.words and heard.words)
            self._mind()

    def forget(self, older_than: float) -> None:
        """Leave out what has waited for more than so many seconds."""
        with self._lock:
            edge = self._clock() - older_than
            self._heard = {name: heard for name, heard in self._heard.items() if heard.at >= edge}
            self._mind()

    def _mind(self) -> None:
        if self._heard:
            self._some.set()
        else:
            self._some.clear()


def nudge(heard: Mapping[str, Heard]) -> int:
    """Ask the worker to look at the workspaces of these names; says how many there are. Other names are nobody's.

    What is only said about a workspace tells what its start waits for, and decides nothing: of one that does not start
    it is no news. A machine that was silent for a moment has the cluster say a word about each pod on it, say.

    The rows are noted as due first, so that the sweep finds them if the broker is away.

    Raises:
        OperationalError, InterfaceError: the database is away.
    """
    count = 0
    for some in batches(heard):
        rows = Workspace.objects.filter(slug__in=some).values_list("pk", "slug", "state")
        ids = [pk for pk, slug, state in rows if not heard[slug].words or state == State.STARTING.value]
        if not ids:
            continue
        now = timezone.now()
        later = Q(look_again_at__isnull=True) | Q(look_again_at__gt=now)
        Workspace.objects.filter(later, pk__in=ids).update(look_again_at=now)
        jobs.enqueue_each("workspaces.reconcile", [str(pk) for pk in ids])
        count += len(ids)
    observe.NUDGES.inc(count)
    return count


class Nudger:
    """Passes changes on while this process leads. Run it in a thread of its own.

    Args:
        waiting: what was heard.
        leads: whether this process may act.
        stop: set when it is to end.
        clock: of `waiting`.
    """

    def __init__(
        self,
        waiting: Waiting,
        leads: Callable[[], bool],
        stop: threading.Event,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._waiting = waiting
        self._leads = leads
        self._stop = stop
        self._clock = clock

    def run(self) -> None:
        """Pass on until stopped. A database that is away is waited for; what changed meanwhile is not lost."""
        pause = _FIRST_PAUSE
        while not self._stop.is_set():
            if not self._waiting.wait(1.0):
                continue
            self._stop.wait(WINDOW)
            if not self._leads():
                self._waiting.forget(older_than=KEEP)
                self._stop.wait(_FOLLOW)
            elif self.pass_on():
                pause = _FIRST_PAUSE
            else:
                self._stop.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    def pass_on(self) -> bool:
        """One batch. Says False when the database did not take it; it is kept then."""
        taken = self._waiting.take(_MOST_AT_ONCE)
        try:
            count = nudge(taken)
        except (OperationalError, InterfaceError) as error:
            log.warning("nudge_failed", waiting=len(taken), error=type(error).__name__)
            self._waiting.put_back(taken)
            return False
        finally:
            close_old_connections()
        now = self._clock()
        for heard in taken.values():
            observe.EVENT_LAG.observe(now - heard.at)
        log.info("nudged", changed=len(taken), workspaces=count)
        return True
