"""The truth, periodically: finds what nudges missed, and what nobody remembers."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from kernel import jobs, observe
from kernel.errors import Failure
from workspaces.models import Workspace
from workspaces.operator.decide import NODE_LOST
from workspaces.runtime.operating import Operable
from workspaces.runtime.port import Listed, Presence, Runtime
from workspaces.selectors import due
from workspaces.states import State

log = structlog.get_logger(__name__)

_BATCH = 500
MANY = 100
LOOK_SECONDS = timedelta(seconds=0.2)
_WITHOUT_RUN = [State.STOPPED.value, State.FAILED.value, State.DELETED.value, State.PURGED.value]


def sweep(*, now: datetime) -> int:
    """Ask for a look at every workspace that is overdue; says how many.

    Where many are, those that were asked for are not asked for again before there was time for all of them: a worker
    that is behind must not get further behind by being reminded.
    """
    found = due(now=now)
    observe.BACKLOG.set(len(found))
    if len(found) > MANY:
        again = now + len(found) * LOOK_SECONDS
        Workspace.objects.filter(pk__in=found, look_again_at__lte=now).update(look_again_at=again)
    jobs.enqueue_each("workspaces.reconcile", [str(workspace_id) for workspace_id in found])
    return len(found)


def compare(listed: Iterable[Listed]) -> tuple[list[str], list[UUID]]:
    """What the runtime has, held against what the database knows, both ways.

    Args:
        listed: by the runtime, before this is called: a workspace's row is always there before its run.

    What is as the database says is not looked at, however many there are. What is on its way somewhere is looked at
    every few seconds anyway.

    Returns:
        Names that no workspace has; and workspaces to look at: they have a run that they should not have, or are said
        to be running and have none, or their machine fell silent, or answers again, and nobody was told.
    """
    entries = {entry.name: entry for entry in listed}
    known: dict[str, tuple[UUID, str]] = {}
    for names in batches(entries):
        rows = Workspace.objects.filter(slug__in=names).values_list("slug", "pk", "state")
        known |= {slug: (pk, state) for slug, pk, state in rows}
    stray = [
        pk
        for slug, (pk, state) in known.items()
        if state in _WITHOUT_RUN and entries[slug].presence in {Presence.RUNNING, Presence.EXITED}
    ]
    running = Workspace.objects.filter(state=State.RUNNING.value).values_list("slug", "pk", "warnings")
    for slug, pk, warnings in running.iterator():
        presence = entries[slug].presence if slug in entries else Presence.ABSENT
        silent = presence is Presence.UNKNOWN
        if presence in {Presence.ABSENT, Presence.EXITED} or silent != (NODE_LOST in warnings):
            stray.append(pk)
    return [name for name in entries if name not in known], stray


def sweep_orphans(runtime: Runtime) -> list[str]:
    """Report what no workspace owns, and leave it alone: it may be somebody's work. Look at what is astray.

    A runtime that has an operator process is left to that (`orphans`).

    Returns:
        The names that no workspace owns.
    """
    if isinstance(runtime, Operable):
        return []
    try:
        listed = runtime.list()
    except Failure as failure:
        log.warning("list_failed", failure=failure.code)
        return []
    orphans, stray = compare(listed)
    report(orphans)
    jobs.enqueue_each("workspaces.reconcile", [str(pk) for pk in stray])
    return orphans


def report(orphans: Collection[str]) -> None:
    """Tell of what no workspace owns."""
    observe.ORPHANS.set(len(orphans))
    for name in orphans:
        log.warning("orphan_found", name=name)


def batches(names: Iterable[str]) -> Iterator[list[str]]:
    """The names in lists of a size that any database takes in one question."""
    left = iter(names)
    while some := list(itertools.islice(left, _BATCH)):
        yield some
