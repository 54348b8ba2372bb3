"""The way out for an administrator, where nobody can tell whether a workspace runs."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from kernel import jobs
from workspaces.models import Workspace
from workspaces.runtime.port import Runtime
from workspaces.selectors import no_workspace
from workspaces.services import events
from workspaces.states import EventKind


def clear_run(slug: str, runtime: Runtime, *, machine_is_off: bool = False) -> Workspace:
    """End by force what is left of a workspace's run, keep its files, and let the operator go on from there.

    A workspace that is wanted running gets a new run.

    Args:
        machine_is_off: nobody waits for the machine that it ran on. If it were not off, two machines could write to the
            same files.

    Raises:
        NotFound: no workspace has this slug.
        Failure: the runtime could not do it.
    """
    workspace = Workspace.objects.filter(slug=slug).first()
    if workspace is None:
        raise no_workspace()
    (runtime.abandon_run if machine_is_off else runtime.destroy_run)(slug)
    with transaction.atomic():
        Workspace.objects.filter(pk=workspace.pk).update(look_again_at=timezone.now())
        events.record(
            workspace,
            EventKind.CHANGE,
            text="An administrator ended by force what was left of its run. Its files are kept.",
        )
        jobs.enqueue("workspaces.reconcile", str(workspace.pk))
    return workspace
