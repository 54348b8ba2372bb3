"""What a runtime raises: `kernel.errors` and nothing else.

Adapters translate everything their libraries and system calls raise into `UserFault` (the workspace's own
configuration), `ClusterFault` (the machine or cluster under us: full disk, no memory, no sandbox; `temporary` says
whether it may pass) or `PlatformFault` (our own mistake).
"""

from __future__ import annotations

from kernel.errors import ClusterFault, Failure, PlatformFault, UserFault

__all__ = ["ClusterFault", "Failure", "PlatformFault", "SpecConflict", "UserFault", "VolumeMissing"]


class SpecConflict(PlatformFault):
    """Another run already has this name, started from another specification."""

    def __init__(self, name: str) -> None:
        super().__init__(
            "spec_conflict",
            "An older run of this workspace is still there.",
            "Stop the workspace, then start it again.",
            log_text=f"run {name} exists with another spec digest",
        )


class VolumeMissing(ClusterFault):
    """A workspace's storage is not there: a disk that is not mounted, or a folder that somebody removed."""

    def __init__(self, name: str) -> None:
        super().__init__(
            "volume_missing",
            "The workspace's storage is not where it was. Nothing was made up in its place.",
            "Ask your administrator to bring the storage back (to mount its disk, say), then start the workspace again;"
            " or delete this workspace and create a new one.",
            log_text=f"no volume for {name}",
            temporary=False,
        )
