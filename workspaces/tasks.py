"""The operator's work, by name. A task takes ids, reads again, and returns at once when nothing is due."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from celery import shared_task
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from kernel.errors import ClusterFault
from workspaces.operator import sweep as sweeper
from workspaces.operator.reconcile import reconcile as reconcile_workspace
from workspaces.services import activity, devclusters, owners
from workspaces.services.runtimes import runtime

# A busy or restarting database is waited for; the sweep is behind that.
_PATIENT: dict[str, Any] = {
    "autoretry_for": (OperationalError, InterfaceError),
    "retry_backoff": 1,
    "retry_backoff_max": 30,
    "retry_jitter": True,
    "max_retries": 5,
}


@shared_task(name="workspaces.reconcile", **_PATIENT)
def reconcile(workspace_id: str) -> None:
    """Bring one workspace nearer to what its owner wants."""
    reconcile_workspace(UUID(workspace_id), runtime())


@shared_task(name="workspaces.sweep", **_PATIENT)
def sweep() -> None:
    """Look at everything that is overdue."""
    sweeper.sweep(now=timezone.now())


@shared_task(name="workspaces.sweep_orphans", **_PATIENT)
def sweep_orphans() -> None:
    """Find runs and volumes that nobody owns."""
    sweeper.sweep_orphans(runtime())


# Its own sweep is behind it; what waits longer than that is found again.
@shared_task(name=devclusters.SETTLE, **{**_PATIENT, "autoretry_for": (*_PATIENT["autoretry_for"], ClusterFault)})
def settle_dev_access(workspace_id: str) -> None:
    """End access to the dev cluster that a workspace should not have any more."""
    devclusters.settle(UUID(workspace_id))


@shared_task(name="workspaces.sweep_dev_cluster", **_PATIENT)
def sweep_dev_cluster() -> None:
    """Find access to the dev cluster that nobody ended."""
    devclusters.sweep()


@shared_task(name="workspaces.stop_of_disabled", **_PATIENT)
def stop_of_disabled(owner_id: str | None = None) -> None:
    """Stop what disabled users, or this one, have."""
    owners.stop_of_disabled(int(owner_id) if owner_id else None, now=timezone.now())


@shared_task(name="workspaces.flush_activity", **_PATIENT)
def flush_activity() -> None:
    """Bring signs of activity to the database."""
    activity.flush(now=timezone.now())
