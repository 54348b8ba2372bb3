"""The part of the port that a runtime has which copies no volumes and gives them no size."""

from __future__ import annotations

from datetime import datetime
from typing import NoReturn

from workspaces.runtime.errors import SnapshotsUnavailable
from workspaces.runtime.port import SnapshotRef


class WithoutSnapshots:
    """To be inherited by such an adapter; see the port for each of these."""

    @property
    def keeps_snapshots(self) -> bool:
        """See the port."""
        return False

    def snapshot(self, name: str, *, key: str, created: datetime) -> NoReturn:
        """See the port."""
        raise SnapshotsUnavailable(f"snapshot {key} of {name}, created {created}")

    def restore(self, name: str, snapshot: SnapshotRef) -> NoReturn:
        """See the port."""
        raise SnapshotsUnavailable(f"restore {name} from {snapshot.reference}")

    def forget_snapshot(self, name: str, snapshot: SnapshotRef) -> NoReturn:
        """See the port."""
        raise SnapshotsUnavailable(f"forget {snapshot.reference} of {name}")

    def call_off_snapshot(self, name: str, *, key: str) -> NoReturn:
        """See the port."""
        raise SnapshotsUnavailable(f"call off {key} of {name}")

    def free_volume(self, name: str, *, volume: str) -> NoReturn:
        """See the port."""
        raise SnapshotsUnavailable(f"free {volume} of {name}")

    def resize_volume(self, name: str) -> None:
        """See the port. Here a volume is as large as its disk."""
