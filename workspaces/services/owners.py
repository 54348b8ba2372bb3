"""What becomes of workspaces when something happens to their owner."""

from __future__ import annotations

from datetime import datetime

from kernel.errors import Conflict
from workspaces.models import Workspace
from workspaces.services import intents
from workspaces.states import Desired, Reason

AT_ONCE = 500


def stop_of_disabled(owner_id: int | None = None, *, now: datetime) -> int:
    """Stop up to 500 workspaces whose owners (or this one) were disabled; how many were asked to. Their files stay."""
    rows = Workspace.objects.filter(owner__is_active=False, desired=Desired.RUNNING.value)
    if owner_id is not None:
        rows = rows.filter(owner=owner_id)
    stopped = 0
    for workspace in rows.order_by("pk")[:AT_ONCE]:
        try:
            intents.stop(workspace, actor=None, now=now, reason=Reason.OWNER_DISABLED)
        except Conflict:
            # It went to the trash meanwhile, or too much happens to it: the next look finds what is left.
            continue
        stopped += 1
    return stopped
