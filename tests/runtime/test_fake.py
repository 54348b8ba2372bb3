"""The fake's variants, each on a clock that the test sets."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from kernel.errors import ClusterFault, PlatformFault, UserFault
from tests.runtime.rigs import spec
from workspaces.runtime.errors import VolumeRestoring
from workspaces.runtime.fake import FakeOptions, FakeRuntime, build
from workspaces.runtime.port import CopyState, Presence

NOW = datetime(2026, 11, 24, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def started(options: FakeOptions, clock: Clock) -> FakeRuntime:
    runtime = FakeRuntime(options, clock=clock)
    runtime.ensure_volume("demo")
    runtime.ensure_run(spec())
    return runtime


def test_slow_is_there_but_not_started() -> None:
    clock = Clock()
    runtime = started(FakeOptions(start_after=5), clock)
    seen = runtime.observe("demo")
    assert (seen.presence, seen.reason, seen.started_at, seen.upstream) == (Presence.RUNNING, "starting", None, {})
    clock.now += 5
    seen = runtime.observe("demo")
    assert seen.reason == ""
    assert seen.started_at is not None
    assert seen.upstream


def test_a_stop_takes_its_time_and_force_ends_it() -> None:
    clock = Clock()
    runtime = started(FakeOptions(stop_after=100), clock)
    runtime.stop("demo", grace=10)
    clock.now += 9
    runtime.stop("demo", grace=10)
    assert runtime.observe("demo").presence is Presence.RUNNING
    clock.now += 1
    runtime.stop("demo", grace=10)
    assert runtime.observe("demo").exit_code == -9


def test_hanging_never_ends() -> None:
    clock = Clock()
    runtime = started(FakeOptions(hang_stop=True), clock)
    runtime.stop("demo", grace=1)
    clock.now += 1e6
    runtime.stop("demo", grace=1)
    assert runtime.observe("demo").presence is Presence.RUNNING
    with pytest.raises(ClusterFault) as caught:
        runtime.destroy_run("demo")
    assert caught.value.temporary


def test_hanging_cannot_tell() -> None:
    runtime = started(FakeOptions(observe_unknown=True), Clock())
    assert runtime.observe("demo").presence is Presence.UNKNOWN
    assert runtime.list()[0].presence is Presence.UNKNOWN


def test_it_exits_by_itself() -> None:
    clock = Clock()
    runtime = started(FakeOptions(exit_after=3, exit_code=137, exit_reason="oom_killed"), clock)
    assert runtime.observe("demo").presence is Presence.RUNNING
    clock.now += 3
    seen = runtime.observe("demo")
    assert (seen.presence, seen.exit_code, seen.reason) == (Presence.EXITED, 137, "oom_killed")


def test_failing_raises_what_it_was_given() -> None:
    fault = UserFault("bad_class", "There is no such class.", "Choose another.")
    runtime = FakeRuntime(FakeOptions(fail={"ensure_run": fault}))
    runtime.ensure_volume("demo")
    with pytest.raises(UserFault) as caught:
        runtime.ensure_run(spec())
    assert caught.value is fault
    assert runtime.observe("demo").presence is Presence.ABSENT


def test_from_settings(tmp_path: Path) -> None:
    options = {"folder": str(tmp_path), "fail": {"stop": {"responsible": "platform", "code": "no_stop"}}}
    runtime = build(options)
    runtime.ensure_volume("demo")
    runtime.ensure_run(spec())
    assert build({"folder": str(tmp_path)}).observe("demo").presence is Presence.RUNNING
    with pytest.raises(PlatformFault) as caught:
        runtime.stop("demo", grace=1)
    assert caught.value.code == "no_stop"


def test_a_copy_takes_its_time_and_a_start_calls_it_off() -> None:
    clock = Clock()
    runtime = FakeRuntime(FakeOptions(copy_after=10), clock=clock)
    runtime.ensure_volume("demo")
    assert runtime.snapshot("demo", key="one", created=NOW).state is CopyState.RUNNING
    clock.now += 9
    runtime.ensure_run(spec())
    runtime.destroy_run("demo")
    assert runtime.snapshot("demo", key="one", created=NOW).state is CopyState.RUNNING
    clock.now += 9
    assert runtime.snapshot("demo", key="one", created=NOW).state is CopyState.RUNNING
    clock.now += 1
    assert runtime.snapshot("demo", key="one", created=NOW).state is CopyState.PRESENT


def test_a_copy_that_fails_can_be_tried_again(tmp_path: Path) -> None:
    fault = ClusterFault("registry_away", "Away.", "Wait.")
    bad = FakeRuntime(FakeOptions(copy_fails=fault), folder=tmp_path)
    good = FakeRuntime(folder=tmp_path)
    bad.ensure_volume("demo")
    assert bad.snapshot("demo", key="one", created=NOW).failure is fault
    found = good.snapshot("demo", key="one", created=NOW).snapshot
    assert found is not None
    good.destroy_volume("demo")
    assert bad.restore("demo", found).state is CopyState.FAILED
    with pytest.raises(VolumeRestoring):
        good.ensure_run(spec())
    assert good.restore("demo", found).state is CopyState.PRESENT
    good.ensure_run(spec())
