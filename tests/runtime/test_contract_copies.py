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
    with pytest.raises(SnapshotsUnavailable):
        rig.runtime.call_off_snapshot("demo", key="one")
    with pytest.raises(SnapshotsUnavailable):
        rig.runtime.free_volume("demo", volume="any")
    assert [entry.name for entry in rig.runtime.list()] == ["demo"]


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


def freed(rig: Rig, volume: str) -> None:
    assert until_done(lambda: rig.runtime.free_volume("demo", volume=volume)).state is CopyState.ABSENT


def test_only_the_volume_that_was_copied_is_freed(rig: Rig) -> None:
    rig.runtime.ensure_volume("demo")
    made = until_done(lambda: rig.runtime.snapshot("demo", key="one", created=NOW))
    found = saved(rig)
    assert made.snapshot == found
    assert made.volume
    with pytest.raises(VolumeExists) as caught:
        rig.runtime.restore("demo", found)
    assert caught.value.volume == made.volume
    freed(rig, "another")
    assert [entry.has_volume for entry in rig.runtime.list()] == [True]
    for _ in range(2):
        freed(rig, made.volume)
    assert rig.runtime.list() == []
    assert until_done(lambda: rig.runtime.restore("demo", found)).state is CopyState.PRESENT
    # Who comes late must not meet what was made since.
    freed(rig, made.volume)
    assert [entry.has_volume for entry in rig.runtime.list()] == [True]
    again = until_done(lambda: rig.runtime.snapshot("demo", key="two", created=NOW)).volume
    assert again not in {"", made.volume}
    rig.start(run=2)
    with pytest.raises(VolumeInUse):
        rig.runtime.free_volume("demo", volume=again)
    freed(rig, made.volume)


def test_a_copy_that_nobody_saw_can_be_called_off(rig: Rig) -> None:
    rig.runtime.ensure_volume("demo")
    found = saved(rig)
    rig.runtime.snapshot("demo", key="two", created=NOW)
    for key in ("one", "two", "never"):
        for _ in range(2):
            done = until_done(lambda key=key: rig.runtime.call_off_snapshot("demo", key=key))  # type: ignore[misc]
            assert done.state is CopyState.ABSENT
    rig.runtime.destroy_volume("demo")
    assert until_done(lambda: rig.runtime.restore("demo", found)).state is CopyState.FAILED
