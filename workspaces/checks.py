"""What Django looks at before anything starts: settings that only this app understands."""

from __future__ import annotations

from typing import Any

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
