"""What a runtime raises: `kernel.errors` and nothing else.

Adapters translate everything their libraries and system calls raise into `UserFault` (the workspace's own
configuration), `ClusterFault` (the machine or cluster under us: full disk, no memory, no sandbox; `temporary` says
whether it may pass) or `PlatformFault` (our own mistake).
"""

from __future__ import annotations

from kernel.errors import ClusterFault, Failure, PlatformFault, UserFault

__all__ = [
    "ClusterFault",
    "Failure",
    "PlatformFault",
    "SnapshotsUnavailable",
    "SpecConflict",
    "UserFault",
    "VolumeExists",
    "VolumeInUse",
    "VolumeMissing",
    "VolumeRestoring",
]


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


class VolumeInUse(PlatformFault):
    """A run is there, so the volume cannot be copied as a whole."""

    def __init__(self, name: str) -> None:
        super().__init__(
            "volume_in_use",
            "The workspace is still running.",
            "Stop it first, then try again.",
            log_text=f"a run of {name} is there",
        )


class VolumeExists(PlatformFault):
    """There are files where a copy should be restored to.

    Args:
        name: the workspace's.
        volume: which volume that is; see `Runtime.free_volume`.
    """

    def __init__(self, name: str, volume: str) -> None:
        super().__init__(
            "volume_exists",
            "The workspace has storage already. Nothing in it was touched.",
            "Restore into a new workspace, or delete this one's storage first.",
            log_text=f"{name} has a volume that was not made from this snapshot",
        )
        self.volume = volume


class VolumeRestoring(ClusterFault):
    """The volume is not whole yet: it is still being made from a copy."""

    def __init__(self, name: str) -> None:
        super().__init__(
            "volume_restoring",
            "The workspace's files are still being restored.",
            "Wait a moment; Slipway tries again by itself.",
            log_text=f"the volume of {name} is half restored",
            retry_after=2,
        )


class SnapshotsUnavailable(PlatformFault):
    """This runtime copies no volumes, or not of this kind."""

    def __init__(self, detail: str) -> None:
        super().__init__(
            "snapshots_unavailable",
            "Copies of workspaces are not set up here.",
            "Ask the operator to set up snapshots or backups.",
            log_text=detail,
        )
