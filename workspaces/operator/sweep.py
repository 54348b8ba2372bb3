"""The truth, periodically: finds what nudges missed, and what nobody remembers."""

from __future__ import annotations

from datetime import datetime

import structlog

from kernel import jobs, observe
from kernel.errors import Failure
from workspaces.models import Workspace
from workspaces.runtime.port import Presence, Runtime
from workspaces.selectors import due
from workspaces.states import State

log = structlog.get_logger(__name__)

_WITHOUT_RUN = [State.STOPPED.value, State.FAILED.value, State.DELETED.value, State.PURGED.value]


def sweep(*, now: datetime) -> int:
    """Ask for a look at every workspace that is overdue; says how many."""
    found = due(now=now)
    observe.BACKLOG.set(len(found))
    for workspace_id in found:
        jobs.enqueue("workspaces.reconcile", str(workspace_id))
    return len(found)


def sweep_orphans(runtime: Runtime) -> list[str]:
    """Compare what the runtime has with what the database knows, both ways.

    A run that its workspace should not have is looked at by the operator, which ends it. What no workspace owns is
    reported and left alone: it may be somebody's work.

    Returns:
        The names that no workspace owns.
    """
    try:
        listed = runtime.list()
    except Failure as failure:
        log.warning("list_failed", failure=failure.code)
        return []
    known = dict(Workspace.objects.filter(slug__in=[entry.name for entry in listed]).values_list("slug", "state"))
    orphans = [entry.name for entry in listed if entry.name not in known]
    observe.ORPHANS.set(len(orphans))
    for name in orphans:
        log.warning("orphan_found", name=name)
    stray = [
        entry.name
        for entry in listed
        if known.get(entry.name) in _WITHOUT_RUN and entry.presence in {Presence.RUNNING, Presence.EXITED}
    ]
    for workspace_id in Workspace.objects.filter(slug__in=stray).values_list("pk", flat=True):
        jobs.enqueue("workspaces.reconcile", str(workspace_id))
    return orphans
