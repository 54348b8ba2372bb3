"""The watch against a real API server: what it tells, and what it survives."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.runtime.k8s.conftest import Stage, patiently
from tests.support.waiting import eventually
from workspaces.runtime.k8s.client import Cluster, Timeouts
from workspaces.runtime.k8s.watching import DEAF_AFTER, RelistReason, Selection, Watch

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]


@dataclasses.dataclass
class Diary:
    """What a watch told."""

    changes: list[str] = dataclasses.field(default_factory=list)
    lists: list[tuple[RelistReason, int]] = dataclasses.field(default_factory=list)
    words: int = 0

    def changed(self, kind: str, found: dict[str, Any]) -> None:
        self.changes.append(found["metadata"]["name"])

    def listed(self, kind: str, reason: RelistReason, count: int) -> None:
        self.lists.append((reason, count))

    def heard(self, kind: str, age: float) -> None:
        self.words += 1


Begin = Callable[..., tuple[Watch, Diary]]


@pytest.fixture
def begin(stage: Stage) -> Iterator[Begin]:
    """Starts watches of this test's pods, and ends them."""
    running: list[tuple[Watch, threading.Thread]] = []

    def start(**options: Any) -> tuple[Watch, Diary]:
        diary = Diary()
        cluster = Cluster(stage.values["kubeconfig"], Timeouts(1, 5))
        selection = Selection("Pod", labels=f"slipway.dev/instance={stage.values['instance']}")
        watch = Watch(cluster, selection, diary, **options)
        thread = threading.Thread(target=watch.run, daemon=True)
        thread.start()
        running.append((watch, thread))
        return watch, diary

    yield start
    for watch, thread in running:
        # Also one whose stream says nothing.
        watch.stop()
        thread.join(20)
        assert not thread.is_alive()


def test_it_lists_then_tells_each_change_once(stage: Stage, begin: Begin) -> None:
    stage.start()
    watch, diary = begin()
    assert watch.synced.wait(10)
    name = f"{stage.prefix}demo"
    assert diary.lists == [("start", 1)]
    before = len(diary.changes)
    patiently(lambda: stage.runtime().destroy_run("demo"))
    eventually(lambda: len(diary.changes) > before)
    assert set(diary.changes) == {name}


def test_a_server_that_went_away_costs_no_change(stage: Stage, begin: Begin) -> None:
    stage.start()
    watch, diary = begin()
    assert watch.synced.wait(10)
    stage.cluster.stop_api()
    stage.cluster.start_api()
    before = len(diary.changes)
    patiently(lambda: stage.runtime().destroy_run("demo"))
    eventually(lambda: len(diary.changes) > before, timeout=60)


def test_a_silent_server_is_noticed_and_what_it_did_not_tell_is_told_later(stage: Stage, begin: Begin) -> None:
    stage.start()
    watch, diary = begin(silence=2.0)
    assert watch.synced.wait(10)
    stage.cluster.pause_api()
    try:
        eventually(lambda: watch.age > 5, timeout=20)
    finally:
        stage.cluster.resume_api()
    before = len(diary.changes)
    patiently(lambda: stage.runtime().destroy_run("demo"))
    eventually(lambda: len(diary.changes) > before, timeout=60)
    eventually(lambda: watch.age < 5, timeout=20)


def test_nothing_is_synced_before_the_first_list(stage: Stage, begin: Begin) -> None:
    stage.cluster.stop_api()
    try:
        watch, diary = begin()
        assert not watch.synced.wait(2)
        assert diary.changes == []
    finally:
        stage.cluster.start_api()
    assert watch.synced.wait(60)


def test_it_says_when_it_is_deaf(stage: Stage) -> None:
    now = [100.0]
    cluster = Cluster(stage.values["kubeconfig"], Timeouts(1, 5))
    watch = Watch(cluster, Selection("Pod"), Diary(), clock=lambda: now[0])
    assert not watch.deaf
    now[0] += DEAF_AFTER + 1
    assert watch.deaf
