"""One of several leads, whatever dies, stops or is slow. A real Lease; time is the test's."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.runtime.k8s.conftest import Stage
from workspaces.runtime.k8s.client import Cluster, Timeouts
from workspaces.runtime.k8s.lease import DURATION, Leadership

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def candidate(stage: Stage) -> Callable[..., Leadership]:
    cluster = Cluster(stage.values["kubeconfig"], Timeouts(1, 2))

    def make(identity: str, clock: Clock) -> Leadership:
        return Leadership(cluster, "default", str(stage.values["instance"]), identity, clock=clock)

    return make


def test_the_first_leads_and_the_others_wait(candidate: Any) -> None:
    clock = Clock()
    first, second = candidate("a", clock), candidate("b", clock)
    assert first.hold()
    for _ in range(20):
        clock.now += 3
        assert first.hold()
        assert not second.hold()


def test_a_dead_leader_is_followed_after_the_duration_that_the_follower_saw(candidate: Any) -> None:
    clock = Clock()
    first, second = candidate("a", clock), candidate("b", clock)
    assert first.hold()
    assert not second.hold()
    clock.now += DURATION - 1
    assert not second.hold()
    assert not first.leads, "it stops calling itself leader before anybody else may start"
    clock.now += 2
    assert second.hold()
    assert not first.hold()


def test_a_follower_with_another_clock_takes_nothing_from_a_living_leader(candidate: Any) -> None:
    slow, fast = Clock(), Clock()
    fast.now = 9_000_000.0
    first, second = candidate("a", slow), candidate("b", fast)
    assert first.hold()
    for _ in range(10):
        slow.now += 3
        fast.now += 14
        assert first.hold()
        assert not second.hold()


def test_stepping_down_lets_the_next_one_start_at_once(candidate: Any) -> None:
    clock = Clock()
    first, second = candidate("a", clock), candidate("b", clock)
    assert first.hold()
    assert not second.hold()
    first.release()
    assert not first.leads
    assert second.hold()
    first.release()
    assert second.hold(), "who does not lead has nothing to release"


def test_of_many_at_once_one_wins(candidate: Any) -> None:
    clock = Clock()
    everybody = [candidate(f"c{number}", clock) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda one: one.hold(), everybody)) == 1


def test_a_leader_that_cannot_reach_the_cluster_stops_leading(stage: Stage, candidate: Any) -> None:
    clock = Clock()
    leader = candidate("a", clock)
    assert leader.hold()
    stage.cluster.stop_api()
    try:
        clock.now += 5
        assert leader.hold(), "for a while nobody else can have taken it"
        clock.now += 6
        assert not leader.hold()
    finally:
        stage.cluster.start_api()
    assert leader.hold()
