"""What is promised by every runtime that copies volumes, and by those that do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from tests.cluster import network
from tests.runtime.k8s.rig import cluster_rig, with_registry
from tests.runtime.rigs import Rig, fake_rig, local_rig
from tests.support.waiting import eventually
from workspaces.runtime.errors import SnapshotsUnavailable, VolumeExists, VolumeInUse, VolumeMissing
from workspaces.runtime.port import Copying, CopyState, SnapshotRef

pytestmark = pytest.mark.allow_hosts(["127.0.0.1", network.MACHINE])


@pytest.fixture(
    params=[
        "fake",
        pytest.param("k8s", marks=[pytest.mark.node, pytest.mark.registry, pytest.mark.timeout(900)]),
    ]
)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    if request.param == "fake":
        with fake_rig() as found:
            yield found
        return
    node = request.getfixturevalue("node")
    with with_registry(node) as backup, cluster_rig(node, backup) as found:
        yield found


NOW = datetime(2026, 11, 24, tzinfo=UTC)


def until_done(act: Callable[[], Copying]) -> Copying:
    """Repeat an operation on snapshots until it is over."""
    seen = eventually(lambda: found if (found := act()).state is not CopyState.RUNNING else None, timeout=120)
    assert seen is not None
    return seen


def saved(rig: Rig, key: str = "one") -> SnapshotRef:
    found = until_done(lambda: rig.runtime.snapshot("demo", key=key, created=NOW)).snapshot
    assert found is not None
    return found


def test_who_copies_no_volumes_says_so() -> None:
    with local_rig("none") as rig:
        refuses(rig)


def refuses(rig: Rig) -> None:
    assert not rig.runtime.keeps_snapshots
    rig.runtime.ensure_volume("demo")
    with pytest.raises(SnapshotsUnavailable):
        rig.runtime.snapshot("demo", key="one", created=NOW)
    with pytest.raises(SnapshotsUnavailable):
        rig.runtime.restore("demo", SnapshotRef("fake", "demo/one"))


def test_a_copy_outlives_its_volume_and_makes_it_anew(rig: Rig) -> None:
    assert rig.runtime.keeps_snapshots
    with pytest.raises(VolumeMissing):
        rig.runtime.snapshot("demo", key="one", created=NOW)
    rig.runtime.ensure_volume("demo")
    found = saved(rig)
    assert saved(rig) == found
    assert saved(rig, "two") != found
    with pytest.raises(VolumeExists):
        rig.runtime.restore("demo", found)
    rig.runtime.destroy_volume("demo")
    assert rig.runtime.list() == []
    for _ in range(2):
        assert until_done(lambda: rig.runtime.restore("demo", found)) == Copying(CopyState.PRESENT, found)
    rig.start(run=2)
    with pytest.raises(VolumeInUse):
        rig.runtime.snapshot("demo", key="three", created=NOW)
    for _ in range(2):
        assert until_done(lambda: rig.runtime.forget_snapshot("demo", found)).state is CopyState.ABSENT
