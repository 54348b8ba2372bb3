"""What a runtime raises: `kernel.errors` and nothing else.

Adapters translate everything their libraries and system calls raise into `UserFault` (the workspace's own
configuration), `ClusterFault` (the machine or cluster under us: full disk, no memory, no sandbox; `temporary` says
whether it may pass) or `PlatformFault` (our own mistake).
"""

from __future__ import annotations

from kernel.errors import ClusterFault, Failure, PlatformFault, UserFault

__all__ = ["ClusterFault", "Failure", "PlatformFault", "SpecConflict", "UserFault"]


class SpecConflict(PlatformFault):
    """Another run already has this name, started from another specification."""

    def __init__(self, name: str) -> None:
        super().__init__(
            "spec_conflict",
            "An older run of this workspace is still there.",
            "Stop the workspace, then start it again.",
            log_text=f"run {name} exists with another spec digest",
        )
