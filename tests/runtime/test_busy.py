"""Nobody waits long for somebody else's work on a workspace, and nobody works on it at the same time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kernel.errors import ClusterFault
from tests.runtime.rigs import Rig, local_rig, spec
from tests.support.waiting import eventually
from workspaces.runtime.port import Presence, Runtime

ROOT = Path(__file__).resolve().parents[2]

OPERATIONS: dict[str, Callable[[Runtime], object]] = {
    "ensure_volume": lambda runtime: runtime.ensure_volume("demo"),
    "ensure_run": lambda runtime: runtime.ensure_run(spec()),
    "stop": lambda runtime: runtime.stop("demo", grace=0),
    "destroy_run": lambda runtime: runtime.destroy_run("demo"),
    "destroy_volume": lambda runtime: runtime.destroy_volume("demo"),
}


@pytest.fixture
def rig() -> Iterator[Rig]:
    with local_rig("none") as found:
        found.runtime.ensure_volume("demo")
        yield found


@contextlib.contextmanager
def somebody_at_work(rig: Rig) -> Iterator[None]:
    with (rig.root / "var/locks/demo.lock").open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def refusal(operation: Callable[[], object]) -> ClusterFault:
    with pytest.raises(ClusterFault) as caught:
        operation()
    return caught.value


def trash(rig: Rig) -> list[Path]:
    return [*(rig.root / "var/workspaces").glob(".*"), *(rig.root / "r/w").glob(".*")]


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_on_a_workspace_at_work_gives_up_soon_and_may_be_repeated(rig: Rig, name: str) -> None:
    with somebody_at_work(rig):
        begun = time.monotonic()
        fault = refusal(lambda: OPERATIONS[name](rig.runtime))
        took = time.monotonic() - begun
    assert fault.code == "runtime_busy"
    assert fault.temporary
    assert fault.user_text
    assert fault.next_step
    assert took < (15 if name == "ensure_run" else 10)
    OPERATIONS[name](rig.runtime)


def test_looking_needs_nobodys_leave(rig: Rig) -> None:
    with somebody_at_work(rig):
        assert rig.runtime.observe("demo").presence is Presence.ABSENT
        assert [entry.name for entry in rig.runtime.list()] == ["demo"]
        assert rig.runtime.logs("demo") == b""


def test_a_start_waits_longer_than_the_others(rig: Rig) -> None:
    with ThreadPoolExecutor(1) as pool, somebody_at_work(rig):
        start = pool.submit(rig.runtime.ensure_run, spec())
        assert refusal(lambda: rig.again().stop("demo", grace=0)).code == "runtime_busy"
        assert not start.done()
    assert start.result().presence is Presence.RUNNING


class Pause:
    """Stops a caller at one step until it may go on."""

    def __init__(self, step: str) -> None:
        self.step = step
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, step: str) -> None:
        if step == self.step:
            self.reached.set()
            assert self.go_on.wait(60)


def test_a_start_under_way_is_not_called_absent() -> None:
    pause = Pause("limits_made")
    with local_rig("none", on_step=pause) as rig, ThreadPoolExecutor(1) as pool:
        rig.runtime.ensure_volume("demo")
        start = pool.submit(rig.runtime.ensure_run, spec())
        try:
            assert pause.reached.wait(30)
            assert rig.again().observe("demo").presence is Presence.UNKNOWN
            assert [entry.presence for entry in rig.runtime.list()] == [Presence.UNKNOWN]
        finally:
            pause.go_on.set()
        assert start.result().presence is Presence.RUNNING
        assert rig.runtime.observe("demo").presence is Presence.RUNNING


def test_a_long_deletion_keeps_nobody_waiting() -> None:
    pause = Pause("set_aside")
    with local_rig("none", on_step=pause) as rig, ThreadPoolExecutor(1) as pool:
        rig.runtime.ensure_volume("demo")
        (rig.root / "var/workspaces/demo/home/old").touch()
        deletion = pool.submit(rig.runtime.destroy_volume, "demo")
        try:
            assert pause.reached.wait(30)
            assert rig.runtime.list() == []
            assert trash(rig)
            begun = time.monotonic()
            rig.runtime.stop("demo", grace=0)
            rig.runtime.ensure_volume("demo")
            assert rig.runtime.ensure_run(spec()).presence is Presence.RUNNING
            assert time.monotonic() - begun < 20
        finally:
            pause.go_on.set()
        deletion.result()
        assert not trash(rig)
        assert rig.runtime.observe("demo").presence is Presence.RUNNING
        assert not (rig.root / "var/workspaces/demo/home/old").exists()


def test_what_a_run_leaves_in_its_folder_is_deleted_without_keeping_anybody_waiting() -> None:
    pause = Pause("set_aside")
    with local_rig("none", on_step=pause) as rig, ThreadPoolExecutor(1) as pool:
        rig.start(commands=["touch $TMPDIR/much"])
        deletion = pool.submit(rig.destroy)
        try:
            assert pause.reached.wait(30)
            assert trash(rig)
            assert rig.runtime.ensure_run(spec(run=2)).run == 2
        finally:
            pause.go_on.set()
        deletion.result()
        assert not trash(rig)
        assert rig.runtime.observe("demo").run == 2


def test_two_who_delete_do_not_do_it_twice(rig: Rig) -> None:
    rig.runtime.destroy_volume("demo")
    (rig.root / "var/workspaces/.demo.0123").mkdir()
    with (rig.root / "var/locks/demo.trash.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert refusal(lambda: rig.runtime.destroy_volume("demo")).code == "runtime_busy"
        assert trash(rig)
    rig.runtime.destroy_volume("demo")
    assert not trash(rig)


KILLED = """
import os, signal, sys
from pathlib import Path
from workspaces.runtime.local import LocalConfig, LocalRuntime
root = Path(sys.argv[1])
def on_step(step):
    if step == "set_aside":
        os.kill(os.getpid(), signal.SIGKILL)
LocalRuntime(LocalConfig(home=root / "var", run_dir=root / "r", sandbox="none", on_step=on_step)).destroy_volume("demo")
"""


def test_what_a_killed_deletion_left_goes_with_the_next_one(rig: Rig) -> None:
    rig.runtime.ensure_volume("demo-2")
    (rig.root / "var/workspaces/.demo-2.0123").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(rig.root)],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [entry.name for entry in rig.runtime.list()] == ["demo-2"]
    assert rig.runtime.observe("demo").presence is Presence.ABSENT
    assert len(trash(rig)) == 2
    rig.runtime.destroy_volume("demo")
    assert [path.name for path in trash(rig)] == [".demo-2.0123"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives workspaces user ids of their own")
def test_a_user_id_is_not_handed_out_while_files_of_it_are_left() -> None:
    with local_rig("none", uid_count=1) as rig:
        rig.runtime.ensure_volume("demo")
        (rig.root / "var/workspaces/demo").rename(rig.root / "var/workspaces/.demo.0123")
        assert refusal(lambda: rig.runtime.ensure_volume("other")).code == "no_user_ids"
        rig.runtime.destroy_volume("demo")
        rig.runtime.ensure_volume("other")


def test_many_at_once_come_to_an_end(rig: Rig) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(rig.again().destroy_volume, "demo") for _ in range(8)]
    failures = [answer.exception() for answer in answers]
    assert all(failure is None or getattr(failure, "code", "") == "runtime_busy" for failure in failures)
    eventually(lambda: not trash(rig))
    assert rig.runtime.list() == []
