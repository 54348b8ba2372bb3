"""From changes to nudges: each workspace once, in few queries, and nothing is lost that the database did not take."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import User
from kernel import observe
from tests.services.stage import READY, said
from tests.support.queue import asked
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually
from workspaces.models import Repository, Workspace
from workspaces.operator.nudging import KEEP, Heard, Nudger, Waiting, nudge
from workspaces.selectors import due
from workspaces.services import report
from workspaces.states import State

Factory = Callable[..., Workspace]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def changed(*names: str) -> dict[str, Heard]:
    return {name: Heard(0) for name in names}


@given(st.lists(st.one_of(st.integers(0, 9), st.none()), max_size=60), st.integers(1, 4))
def test_each_change_is_in_exactly_one_batch_after_it(steps: list[int | None], most: int) -> None:
    """Numbers are changes of a workspace; None is somebody who takes a batch."""
    clock = Clock()
    waiting = Waiting(clock=clock)
    since: dict[str, float] = {}
    for step in steps:
        clock.now += 1
        if step is not None:
            assert waiting.add(f"w{step}")
            since.setdefault(f"w{step}", clock.now)
            continue
        taken = waiting.take(most)
        told = [(name, heard.at) for name, heard in taken.items()]
        assert told == list(since.items())[:most], "the oldest first, with the time of its first change"
        for name in taken:
            del since[name]
        assert waiting.wait(0) == bool(since)
    assert len(waiting) == len(since)


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 5), st.lists(st.integers(0, 9), max_size=20))
def test_what_is_put_back_is_neither_lost_nor_doubled(before: list[int], most: int, after: list[int]) -> None:
    clock = Clock()
    waiting = Waiting(clock=clock)
    for number in before:
        waiting.add(f"w{number}")
    taken = waiting.take(most)
    clock.now += 5
    for number in after:
        waiting.add(f"w{number}")
    waiting.put_back(taken)
    everything = waiting.take(100)
    assert set(everything) == {f"w{number}" for number in before + after}
    assert all(everything[name].at == heard.at for name, heard in taken.items()), "it has waited since its first change"
    assert not waiting.wait(0)


def test_there_is_an_end_to_what_is_kept() -> None:
    waiting = Waiting(limit=2)
    assert [waiting.add(name) for name in ("a", "b", "a", "c")] == [True, True, True, False]
    waiting.take(1)
    assert waiting.add("c")


def test_who_does_not_lead_remembers_what_a_dead_leader_did_not_pass_on() -> None:
    clock = Clock()
    waiting = Waiting(clock=clock)
    waiting.add("old")
    clock.now += KEEP - 1
    waiting.add("new")
    waiting.forget(KEEP)
    assert len(waiting) == 2
    clock.now += 2
    waiting.forget(KEEP)
    assert list(waiting.take(9)) == ["new"]


@pytest.mark.django_db(transaction=True)
def test_a_burst_is_few_queries_and_one_message_for_each(owner: User, repository: Repository) -> None:
    now = timezone.now()
    fields: dict[str, Any] = {"owner": owner, "repository": repository, "wanted_at": now, "progress_at": now}
    rows = [Workspace(slug=f"w{number}", name="w", ref="r", **fields) for number in range(1000)]
    Workspace.objects.bulk_create(rows)
    waiting = Waiting()
    for _ in range(10):
        for row in rows:
            waiting.add(row.slug)
    nudger = Nudger(waiting, lambda: True, threading.Event())
    with CaptureQueriesContext(connection) as queries:
        assert nudger.pass_on()
    assert len(queries) <= 10
    assert sorted(asked()) == sorted(str(row.pk) for row in rows)
    assert len(due(now=timezone.now())) == 1000


@pytest.mark.django_db(transaction=True)
def test_only_ours_are_nudged_and_no_look_is_put_off(owner: User, workspace_factory: Factory) -> None:
    now = timezone.now()
    overdue = workspace_factory(owner, slug="overdue", look_again_at=now - timedelta(minutes=1))
    later = workspace_factory(owner, slug="later", look_again_at=now + timedelta(minutes=1))
    other = workspace_factory(owner, slug="other", look_again_at=now + timedelta(minutes=1))
    assert nudge(changed("overdue", "later", "somebody-elses")) == 2
    assert sorted(asked()) == sorted([str(overdue.pk), str(later.pk)])
    assert due(now=timezone.now()) == [overdue.pk, later.pk]
    for row in (overdue, other):
        before = row.look_again_at
        row.refresh_from_db()
        assert row.look_again_at == before


@pytest.mark.parametrize(
    ("heard", "words"),
    [
        ([True], True),
        ([False], False),
        ([True, False], False),
        ([False, True], False),
        ([True, True], True),
    ],
)
@pytest.mark.parametrize("way", ["kept", "put back before the rest", "put back with the rest"])
def test_a_change_is_never_taken_for_mere_words(heard: list[bool], words: bool, way: str) -> None:
    waiting = Waiting()
    first, *rest = heard
    waiting.add("demo", words=first)
    taken = waiting.take(1) if way != "kept" else {}
    if way == "put back before the rest":
        waiting.put_back(taken)
    for one in rest:
        waiting.add("demo", words=one)
    if way == "put back with the rest":
        waiting.put_back(taken)
    assert waiting.take(9)["demo"].words is words


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("words", [True, False])
@pytest.mark.django_db(transaction=True)
def test_words_are_news_of_a_start_and_a_change_is_news_of_anything(
    owner: User, workspace_factory: Factory, state: State, words: bool
) -> None:
    row = workspace_factory(owner, slug="demo", state=state.value, run=1)
    is_news = not words or state is State.STARTING
    assert nudge({"demo": Heard(0, words)}) == is_news
    assert asked() == ([str(row.pk)] if is_news else [])
    assert due(now=timezone.now()) == ([row.pk] if is_news else [])


@pytest.mark.django_db(transaction=True)
def test_without_a_broker_the_sweep_finds_them(owner: User, workspace_factory: Factory, valkey: ValkeyServer) -> None:
    rows = [workspace_factory(owner, slug=f"w{number}") for number in range(5)]
    failures = observe.ENQUEUE_FAILURES._value.get()
    valkey.stop()
    try:
        assert nudge(changed(*(row.slug for row in rows))) == 5
    finally:
        valkey.start()
    assert len(due(now=timezone.now())) == 5
    assert observe.ENQUEUE_FAILURES._value.get() == failures + 1, "one that is away is asked once"


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_away_costs_no_change(owner: User, workspace_factory: Factory) -> None:
    row = workspace_factory(owner, slug="demo")

    def away(*_: Any) -> Any:
        raise OperationalError("the database is away")

    waiting = Waiting()
    waiting.add("demo")
    nudger = Nudger(waiting, lambda: True, threading.Event())
    with connection.execute_wrapper(away):
        assert not nudger.pass_on()
    assert len(waiting) == 1
    assert nudger.pass_on()
    assert asked() == [str(row.pk)]


@pytest.mark.django_db(transaction=True)
def test_nothing_is_passed_on_until_it_leads(owner: User, workspace_factory: Factory) -> None:
    row = workspace_factory(owner, slug="demo")
    leads, stop, waiting, looks = threading.Event(), threading.Event(), Waiting(), [0]

    def asks() -> bool:
        looks[0] += 1
        return leads.is_set()

    thread = threading.Thread(target=Nudger(waiting, asks, stop).run)
    thread.start()
    try:
        waiting.add("demo")
        eventually(lambda: looks[0] > 1)
        assert asked() == []
        leads.set()
        assert eventually(asked) == [str(row.pk)]
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()


@pytest.mark.django_db(transaction=True)
def test_who_waits_for_an_editor_that_is_ready_goes_first(owner: User, workspace_factory: Factory) -> None:
    nudge(changed(*(workspace_factory(owner, slug=f"waiting-{number}").slug for number in range(3))))
    ready = workspace_factory(owner, slug="ready", state="starting", run=1)
    report.apply(ready, said({"type": "content", "status": "running", "progress": 0.5}), now=timezone.now())
    assert str(ready.pk) not in asked(), "there is nothing to do about it"
    report.apply(ready, READY, now=timezone.now())
    assert asked()[0] == str(ready.pk)
    assert len(asked()) == 4
