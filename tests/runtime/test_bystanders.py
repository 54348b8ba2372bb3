"""Who is ended with a run, when only its processes are left to tell: all of it, and nobody who merely speaks of it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.runtime.rigs import Rig, local_rig, spec
from tests.support.processes import command_of
from tests.support.waiting import eventually
from workspaces.runtime.port import Presence

WAIT = "import signal, sys; sys.stdout.write('up\\n'); sys.stdout.flush(); signal.pause()"


@pytest.fixture(params=["none", pytest.param("bwrap", marks=pytest.mark.bwrap)])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    # Without control groups: they would find everything, and hide what the other signs miss.
    with local_rig(request.param, cgroup_root=Path("/nonexistent")) as found:
        yield found


@contextlib.contextmanager
def bystander(
    words: Sequence[str], *, name: str = "python3", environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with the run, and yet these words on its command line."""
    with subprocess.Popen(
        [name, "-c", WAIT, *words], executable="/usr/bin/python3", stdout=subprocess.PIPE, env=environment or {}
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            yield process
        finally:
            process.kill()


def words_about(rig: Rig, kind: str) -> list[str]:
    root = rig.root / "var/workspaces/demo"
    return {
        "backup": ["backup", str(root / "home")],
        "bind": ["--bind", str(root / "home"), "/home/dev"],
        "apart": ["--bind", str(root / "home"), "/mnt", "/home/dev"],
        "launch": [str(root / "run/launch.json"), "5"],
        "spec": [f"SLIPWAY_AGENT_SPEC={root}/run/agent/spec.json"],
        "root": [str(root), str(root / "run"), str(rig.root / "r/w/demo")],
    }[kind]


@pytest.mark.parametrize("kind", ["backup", "bind", "apart", "launch", "spec", "root"])
@pytest.mark.parametrize("known", [True, False], ids=["noted", "notes-lost"])
def test_who_only_names_the_workspace_survives(rig: Rig, kind: str, *, known: bool) -> None:
    rig.start()
    with bystander(words_about(rig, kind)) as process:
        if not known:
            (rig.root / "var/workspaces/demo/run/intent.json").write_text("{")
        rig.destroy()
        assert rig.runtime.observe("demo").presence is Presence.ABSENT
        rig.runtime.destroy_volume("demo")
        assert process.poll() is None


def test_one_that_is_called_bwrap_and_backs_up_the_home_survives(rig: Rig) -> None:
    rig.start()
    with bystander(words_about(rig, "backup"), name="bwrap") as process:
        rig.destroy()
        assert process.poll() is None


def test_another_workspace_survives(rig: Rig) -> None:
    rig.start("demo")
    rig.start("demo-2")
    (rig.root / "var/workspaces/demo/run/intent.json").write_text("{")
    rig.destroy()
    assert rig.runtime.observe("demo-2").presence is Presence.RUNNING


def test_a_run_whose_notes_are_lost_is_ended_whole(rig: Rig) -> None:
    rig.start(daemon=True)
    (rig.root / "var/workspaces/demo/run/intent.json").unlink()
    (rig.root / "var/workspaces/demo/run/process.json").unlink()
    rig.destroy()
    assert not rig.processes()
    rig.runtime.ensure_run(spec(run=2))
    eventually(lambda: rig.runtime.observe("demo").run == 2)


@pytest.mark.bwrap
def test_a_sandbox_that_lost_its_supervisor_and_its_notes_is_ended() -> None:
    with local_rig("bwrap", cgroup_root=Path("/nonexistent")) as rig:
        rig.start(daemon=True, behaviour="deaf")
        run = rig.root / "var/workspaces/demo/run"
        shim = [pid for pid in rig.processes() if "shim.py" in command_of(pid)]
        assert len(shim) == 1
        os.kill(shim[0], 9)
        eventually(lambda: shim[0] not in rig.processes())
        for path in run.glob("*.json"):
            path.unlink()
        rig.destroy()
        assert not rig.processes()


def test_the_mark_in_the_environment_is_a_sign(rig: Rig) -> None:
    rig.start()
    mark = {"SLIPWAY_AGENT_SPEC": f"{rig.root}/var/workspaces/demo/run/agent/spec.json"}
    with bystander([], environment=mark) as process:
        rig.destroy()
        assert process.wait(30) < 0
