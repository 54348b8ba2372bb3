"""Access to the dev cluster that the settings name: lent to runs that live, ended when they are over.

The cluster is asked when somebody in a workspace uses it, and not when a workspace starts: a cluster that is away must
keep nobody from their files, and most starts never need it.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.utils.module_loading import import_string

from kernel import jobs, observe
from kernel.errors import ClusterFault, Conflict, Failure, NotFound
from workspaces.models import Workspace
from workspaces.runtime.devcluster import DevCluster, Token
from workspaces.states import WITH_RUN, State

log = structlog.get_logger(__name__)

SETTLE = "workspaces.settle_dev_access"
"""The job that ends what a workspace should not have any more."""

# A cluster that is slow to answer, or away, must not take all of a process's threads.
_LENDING = threading.BoundedSemaphore(8)
_ENDING = threading.BoundedSemaphore(2)
# Seconds to wait for one's turn.
_PATIENCE = 2.0


@functools.cache
def dev_cluster() -> DevCluster | None:
    """One adapter per process, built by the factory that `settings.DEV_CLUSTER` names; None where none is connected."""
    chosen = settings.DEV_CLUSTER
    if not chosen["options"]:
        return None
    made: DevCluster = import_string(chosen["factory"])(chosen["options"])
    return made


def told(slug: str) -> dict[str, Any]:
    """What the agent of this workspace is told of the dev cluster; empty where there is none."""
    cluster = dev_cluster()
    if cluster is None:
        return {}
    terms = cluster.terms(slug)
    return {
        "dev_cluster": {
            "server": terms.server,
            "certificate_authority": terms.certificate_authority,
            "namespace": terms.namespace,
        }
    }


def lend(workspace: Workspace) -> Token:
    """A token for the workspace's present run, which the caller has found to be alive.

    Raises:
        NotFound: no dev cluster is connected.
        Conflict: the run ended meanwhile.
        ClusterFault, PlatformFault: the cluster is away, or refuses.
    """
    cluster = dev_cluster()
    if cluster is None:
        raise NotFound("dev_cluster_none", "No dev cluster is connected to Slipway.", "Ask your administrator for one.")
    with _turn(_LENDING), _counted("issue_token"):
        token = cluster.issue_token(workspace.slug, workspace.run)
    if not Workspace.objects.filter(pk=workspace.pk, run=workspace.run, state__in=WITH_RUN).exists():
        # It ended while the token was made: whoever ended its access may have come too early.
        jobs.enqueue(SETTLE, str(workspace.pk))
        raise Conflict("run_superseded", "This run of the workspace is over.")
    return token


def on_transition(workspace: Workspace, source: State, target: State, *, new_run: bool) -> None:
    """A workspace went from one state to another: have the access ended that it should not have any more."""
    over = source in WITH_RUN and (target not in WITH_RUN or new_run)
    if settings.DEV_CLUSTER["options"] and (over or target is State.PURGED):
        jobs.enqueue(SETTLE, str(workspace.pk))


def settle(workspace_id: UUID) -> None:
    """Take from a workspace what it should not have: access of runs that are over, and all once it is purged.

    Raises:
        ClusterFault: the cluster is away; to be tried again.
    """
    cluster = dev_cluster()
    row = Workspace.objects.filter(pk=workspace_id).only("slug", "state", "run").first()
    if cluster is None or row is None:
        return
    with _turn(_ENDING):
        if row.state == State.PURGED.value:
            with _counted("destroy"):
                cluster.destroy(row.slug)
        else:
            with _counted("revoke"):
                cluster.revoke(row.slug, through=_last_over(row.state, row.run))


def sweep() -> list[str]:
    """Compare what the dev cluster has with what the database knows, and settle what differs.

    A namespace of a workspace that the database does not know is reported and left alone: it may be somebody's work.

    Returns:
        The names that no workspace owns.
    """
    cluster = dev_cluster()
    if cluster is None:
        return []
    try:
        with _counted("list"):
            grants, names = cluster.grants(), cluster.namespaces()
    except Failure as failure:
        log.warning("dev_cluster_list_failed", failure=failure.code, detail=failure.log_text)
        return []
    asked = {*names, *(grant.workspace for grant in grants)}
    rows = Workspace.objects.filter(slug__in=asked).values_list("slug", "pk", "state", "run")
    known = {slug: (pk, state, run) for slug, pk, state, run in rows}
    late = {grant.workspace for grant in grants if _is_over(known.get(grant.workspace), grant.run)}
    late |= {name for name in names if name in known and known[name][1] == State.PURGED.value}
    for name in sorted(late):
        jobs.enqueue(SETTLE, str(known[name][0]))
    orphans = [name for name in names if name not in known]
    for name in orphans:
        log.warning("dev_namespace_orphan", name=name)
    return orphans


def _is_over(known: tuple[UUID, str, int] | None, run: int) -> bool:
    return known is not None and run <= _last_over(known[1], known[2])


def _last_over(state: str, run: int) -> int:
    """The last run of a workspace that is over."""
    return run - 1 if state in WITH_RUN else run


@contextlib.contextmanager
def _turn(turns: threading.BoundedSemaphore) -> Iterator[None]:
    if not turns.acquire(timeout=_PATIENCE):
        raise ClusterFault(
            "dev_cluster_busy",
            "The dev cluster is asked for too much at once.",
            "Try again in a moment.",
            retry_after=2,
        )
    try:
        yield
    finally:
        turns.release()


@contextlib.contextmanager
def _counted(operation: str) -> Iterator[None]:
    try:
        yield
    except Failure:
        observe.DEV_CLUSTER.labels(operation, "failed").inc()
        raise
    observe.DEV_CLUSTER.labels(operation, "done").inc()
