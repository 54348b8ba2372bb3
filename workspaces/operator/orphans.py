"""What runs in the cluster for no workspace: reported at once, removed after it was seen so for long, never its volume.

How long it was seen is counted, in the cluster, from look to look of the process that leads: a process that dies loses
one interval, time in which nobody looked does not count, and no two clocks are compared. A look that fails, of the
cluster or of the database, says nothing about anybody.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import structlog
from django.db import InterfaceError, OperationalError, close_old_connections

from kernel import jobs, observe
from kernel.errors import Failure
from workspaces.models import Workspace
from workspaces.operator.sweep import compare, report
from workspaces.runtime.operating import Found, Operations
from workspaces.runtime.port import Presence

log = structlog.get_logger(__name__)

EVERY = 300.0
"""Seconds between two looks, on average."""
# More than this, between two looks, was not looked.
_MOST_COUNTED = 2 * EVERY
# A database that does not know most of what is there is not the right one, or not all of it.
FEW = 5


class Collector:
    """Looks at everything now and then, in the process that leads.

    Args:
        operations: of this process.
        grace: seconds for which something must have been seen to be nobody's; 0 for ever.
        clock: seconds that only grow.
    """

    def __init__(self, operations: Operations, *, grace: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._operations = operations
        self._grace = grace
        self._clock = clock
        self._looked_at = 0.0
        self._before: frozenset[str] = frozenset()
        self._cleared: frozenset[str] = frozenset()

    def look(self) -> list[str] | None:
        """One look; the names that no workspace has, or None where it could not be told."""
        try:
            return self._look()
        except Failure as failure:
            log.warning("survey_failed", failure=failure.code, detail=failure.log_text)
        except (OperationalError, InterfaceError) as error:
            log.warning("survey_failed", failure="database_away", error=type(error).__name__)
        finally:
            close_old_connections()
        self.forget()
        return None

    def forget(self) -> None:
        """Begin anew: the time until the next look counts for nobody."""
        self._before = frozenset()

    def _look(self) -> list[str]:
        found = self._operations.survey()
        orphans, stray = compare(found)
        jobs.enqueue_each("workspaces.reconcile", [str(pk) for pk in stray])
        report(orphans)
        now = self._clock()
        passed, self._looked_at = min(now - self._looked_at, _MOST_COUNTED), now
        unowned = frozenset(orphans)
        for entry in found:
            if entry.name not in unowned and entry.orphan_seconds is not None:
                self._carefully(entry.name, self._operations.mark, None)
        if not _plausible(found, orphans):
            log.error("orphans_implausible", orphans=len(orphans), found=len(found))
            self.forget()
            return orphans
        for entry in found:
            if entry.name in unowned and entry.markable:
                self._tend(entry, passed if entry.name in self._before else 0.0)
        self._before = unowned
        self._cleared &= unowned
        return orphans

    def _tend(self, entry: Found, passed: float) -> None:
        seconds = (entry.orphan_seconds or 0.0) + passed
        noted = seconds != entry.orphan_seconds and self._carefully(entry.name, self._operations.mark, seconds)
        done = entry.name in self._cleared and entry.presence is Presence.ABSENT
        if not noted or not self._grace or seconds < self._grace or done:
            return
        # Asked again for this one, right before: it may have come back since the look began.
        if not Workspace.objects.filter(slug=entry.name).exists() and self._carefully(
            entry.name, self._operations.clear
        ):
            self._cleared |= {entry.name}
            observe.ORPHANS_CLEARED.inc()
            log.warning("orphan_cleared", name=entry.name, seconds=round(seconds))

    def _carefully(self, name: str, act: Callable[..., bool | None], *rest: float | None) -> bool:
        """Do it, if this process still leads; says whether it was done. What fails is tried at the next look."""
        if not self._operations.leads:
            return False
        try:
            return act(name, *rest) is not False
        except Failure as failure:
            log.warning("orphan_not_tended", name=name, failure=failure.code, detail=failure.log_text)
            return False


def _plausible(found: Sequence[Found], orphans: Sequence[str]) -> bool:
    """Whether the database can be believed that these are nobody's: not when it knows no workspace, or few of them."""
    if not orphans:
        return True
    mostly_unknown = len(orphans) > FEW and 2 * len(orphans) > len(found)
    return not mostly_unknown and Workspace.objects.exists()
