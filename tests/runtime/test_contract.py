"""What every runtime promises, asked of each of them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from kernel.errors import PlatformFault
from tests.runtime.k8s.rig import cluster_rig
from tests.runtime.rigs import Rig, fake_rig, local_rig, spec
from tests.support.waiting import eventually
from workspaces.runtime.errors import SpecConflict, VolumeMissing
from workspaces.runtime.port import Presence


@pytest.fixture(
    params=[
        "fake",
        "none",
        pytest.param("bwrap", marks=pytest.mark.bwrap),
        pytest.param("k8s", marks=[pytest.mark.node, pytest.mark.timeout(900)]),
    ]
)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    if request.param == "k8s":
        with cluster_rig(request.getfixturevalue("node")) as found:
            yield found
    else:
        with fake_rig() if request.param == "fake" else local_rig(request.param) as found:
            yield found


def test_nothing_is_absent(rig: Rig) -> None:
    assert rig.runtime.observe("demo").presence is Presence.ABSENT
    assert rig.runtime.list() == []
    assert rig.runtime.logs("demo") == b""
    rig.runtime.stop("demo", grace=0)
    rig.destroy()
    rig.runtime.destroy_volume("demo")


def test_a_volume_alone_is_listed_and_absent(rig: Rig) -> None:
    rig.runtime.ensure_volume("demo")
    rig.runtime.ensure_volume("demo")
    (listed,) = rig.runtime.list()
    assert (listed.name, listed.has_volume, listed.presence) == ("demo", True, Presence.ABSENT)


def test_a_run_is_seen_with_all_that_identifies_it(rig: Rig) -> None:
    rig.start(run=3)
    seen = rig.runtime.observe("demo")
    assert seen.presence is Presence.RUNNING
    assert seen.run == 3
    assert seen.digest == spec(run=3).digest()
    assert seen.started_at is not None
    assert seen.exit_code is None
    assert seen.upstream["ide"].startswith(rig.scheme)
    assert seen.upstream["ports"].startswith(rig.scheme)
    assert rig.runtime.list()[0].presence is Presence.RUNNING


def test_the_same_run_again_starts_nothing(rig: Rig) -> None:
    rig.start()
    first = rig.runtime.observe("demo")
    again = rig.again().ensure_run(spec())
    assert again.presence is Presence.RUNNING
    assert rig.runtime.logs("demo").count(b"ready") <= 1
    assert again.started_at == first.started_at


def test_two_callers_at_once_start_one_run(rig: Rig) -> None:
    rig.runtime.ensure_volume("demo")
    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(lambda _: rig.again().ensure_run(spec()), range(4)))
    assert {one.presence for one in seen} == {Presence.RUNNING}
    assert len({one.started_at for one in seen}) == 1


def test_another_specification_is_a_conflict_and_kills_nothing(rig: Rig) -> None:
    rig.start(run=1)
    with pytest.raises(SpecConflict):
        rig.runtime.ensure_run(spec(run=2))
    assert rig.runtime.observe("demo").run == 1
    assert rig.runtime.observe("demo").presence is Presence.RUNNING


def test_a_run_needs_its_volume(rig: Rig) -> None:
    with pytest.raises(VolumeMissing) as caught:
        rig.runtime.ensure_run(spec())
    assert (caught.value.code, caught.value.temporary) == ("volume_missing", False)
    assert rig.runtime.observe("demo").presence is Presence.ABSENT
    assert rig.runtime.list() == []


def test_a_polite_stop_ends_it_in_order_and_keeps_volume_and_log(rig: Rig) -> None:
    rig.start()
    rig.runtime.stop("demo", grace=60)
    rig.wait_for_end(code=0)
    if rig.ended is Presence.EXITED:
        assert rig.runtime.ensure_run(spec()).presence is Presence.EXITED
    rig.destroy()
    assert rig.runtime.observe("demo").presence is Presence.ABSENT
    assert rig.runtime.list()[0].has_volume
    assert rig.runtime.logs("demo")
    rig.runtime.stop("demo", grace=0)


def test_force_after_grace(rig: Rig) -> None:
    rig.start(behaviour="deaf")
    rig.runtime.stop("demo", grace=0)
    rig.wait_for_end(code=-9)


def test_destroying_a_living_run_ends_it(rig: Rig) -> None:
    rig.start(behaviour="deaf")
    rig.destroy()
    assert rig.runtime.observe("demo").presence is Presence.ABSENT
    rig.start(run=2)
    assert rig.runtime.observe("demo").run == 2


def test_a_volume_in_use_is_not_deleted(rig: Rig) -> None:
    rig.start()
    with pytest.raises(PlatformFault) as caught:
        rig.runtime.destroy_volume("demo")
    assert caught.value.code == "volume_in_use"
    rig.destroy()
    rig.runtime.destroy_volume("demo")
    rig.runtime.destroy_volume("demo")
    assert rig.runtime.list() == []
    eventually(lambda: rig.runtime.logs("demo") == b"", timeout=rig.patience, what="the log is gone")


def test_another_instance_takes_over(rig: Rig) -> None:
    rig.start()
    other = rig.again()
    assert other.observe("demo").presence is Presence.RUNNING
    other.stop("demo", grace=60)
    rig.wait_for_end(code=0)
    assert other.observe("demo").presence is rig.ended


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", "-a", "a-", "a b", "ä", "a" * 64, ".", "a\n"])
def test_a_name_that_leads_elsewhere_is_refused(rig: Rig, name: str) -> None:
    for operation in (rig.runtime.ensure_volume, rig.runtime.observe, rig.runtime.destroy_volume, rig.runtime.logs):
        with pytest.raises(PlatformFault) as caught:
            operation(name)
        assert caught.value.code == "invalid_name"
