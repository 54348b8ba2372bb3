"""What Django looks at before anything starts: settings that only this app understands."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from kernel.errors import Failure
from workspaces.services.devclusters import dev_cluster
from workspaces.services.runtimes import runtime


@register
def runtime_is_set_up(**_: Any) -> list[CheckMessage]:
    """The runtime can be made from its options. Nothing is asked of it."""
    try:
        runtime()
    except Failure as failure:
        return [Error(f"{failure.user_text} {failure.log_text}", hint=failure.next_step, id="workspaces.E001")]
    return []


@register
def dev_cluster_is_set_up(**_: Any) -> list[CheckMessage]:
    """The dev cluster's adapter can be made from its options. Nothing is asked of it."""
    try:
        dev_cluster()
    except Failure as failure:
        return [Error(f"{failure.user_text} {failure.log_text}", hint=failure.next_step, id="workspaces.E002")]
    return []


@register
def trash_can_be_copied(**_: Any) -> list[CheckMessage]:
    """Where the trash shall be copied, the runtime can do so. Nothing is asked of it."""
    if not settings.ENVIRONMENT.trash_copies:
        return []
    try:
        able = runtime().keeps_snapshots
    except Failure:
        # Told by `runtime_is_set_up`.
        return []
    if able:
        return []
    text = "SLIPWAY_TRASH_COPIES is set, and the runtime copies no volumes."
    return [Error(text, hint="Set `snapshot_class` or `backup` (docs/storage.md), or unset it.", id="workspaces.E003")]
