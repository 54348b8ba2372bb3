"""The local adapter beyond the contract: crashes at every step, limits, what is left behind, bad notes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.errors import ClusterFault, Failure, PlatformFault
from tests.runtime.rigs import Rig, local_rig, spec
from tests.support.waiting import eventually
from workspaces.runtime.local import LocalConfig, build, run_dir_fits
from workspaces.runtime.local import processes as proc
from workspaces.runtime.port import Limits, Presence

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["none", pytest.param("bwrap", marks=pytest.mark.bwrap)])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with local_rig(request.param) as found:
        yield found


def notes(rig: Rig, name: str = "demo") -> Path:
    return rig.root / "var" / "workspaces" / name / "run"


def noted(rig: Rig, key: str) -> int:
    pid = json.loads((notes(rig) / "process.json").read_text())[key]["pid"]
    assert isinstance(pid, int)
    return pid


CALLER = """
import os, signal, sys
from pathlib import Path
from tests.runtime.rigs import spec
from workspaces.runtime.local import LocalConfig, LocalRuntime
root, sandbox, fatal = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
def on_step(step):
    if step == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
LocalRuntime(LocalConfig(home=root / "var", run_dir=root / "r", platform_socket_dir=root / "platform",
    agent_root=root / "agent", command=("/usr/bin/python3", "-u", "-m", "agent"), sandbox=sandbox,
    on_step=on_step)).ensure_run(spec())
"""


@pytest.mark.parametrize(
    "step", ["locked", "limits_made", "intent_written", "handed_over", "spawned", "started", "returned"]
)
def test_a_caller_killed_at_any_step_leaves_one_run(rig: Rig, step: str) -> None:
    rig.runtime.ensure_volume("demo")
    done = subprocess.run(
        [sys.executable, "-c", CALLER, str(rig.root), rig.kind, step],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == (0 if step == "returned" else -signal.SIGKILL), done.stderr
    assert rig.runtime.observe("demo").presence in {Presence.ABSENT, Presence.RUNNING}
    rig.runtime.ensure_run(spec())
    assert rig.runtime.observe("demo").presence is Presence.RUNNING
    eventually(lambda: b'"ready"' in rig.runtime.logs("demo"))
    assert rig.runtime.logs("demo").count(b'"ready"') == 1


def test_the_agent_finds_what_it_was_promised(rig: Rig) -> None:
    commands = ["cat $SLIPWAY_AGENT_SECRETS", "stat -c %a $SLIPWAY_AGENT_SECRETS", "id -u"]
    commands += ["touch $HOME/a $SLIPWAY_STATE_DIR/b $SLIPWAY_RUN_DIR/ide.sock $TMPDIR/c", "ls /proc/self/fd"]
    rig.start(commands=commands)
    *said, ready = rig.said()
    assert json.loads(said[0]["out"]) == {"run_token": "s3cret"}
    assert said[1]["out"].strip() == "600"
    assert said[2]["out"].strip() != "0"
    assert said[3]["code"] == 0, said[3]
    assert set(said[4]["out"].split()) == {"0", "1", "2", "3"}
    assert ready["environment"]["SLIPWAY_PLATFORM"].startswith("unix:/")
    assert (rig.root / "var/workspaces/demo/home/a").exists()
    assert (rig.root / "var/workspaces/demo/state/b").exists()
    assert Path(rig.runtime.observe("demo").upstream["ide"].removeprefix("unix:")).exists()
    assert "SLIPWAY_HOME" not in ready["environment"]


def test_sockets_are_emptied_for_each_run_and_the_home_is_kept(rig: Rig) -> None:
    rig.start(run=1, commands=["touch $HOME/kept $SLIPWAY_RUN_DIR/gone"])
    rig.destroy()
    rig.start(run=2, commands=["ls $HOME", "ls $SLIPWAY_RUN_DIR"])
    said = rig.said()
    assert said[0]["out"].split() == ["kept"]
    assert "gone" not in said[1]["out"]


def test_what_the_agent_leaves_behind_ends_with_it(rig: Rig) -> None:
    rig.start(daemon=True)
    assert rig.processes()
    rig.runtime.stop("demo", grace=60)
    rig.wait_for(Presence.EXITED)
    eventually(lambda: not rig.processes())


def test_its_own_exit_code_is_kept(rig: Rig) -> None:
    rig.start(behaviour="exits")
    assert rig.wait_for(Presence.EXITED).exit_code == 3
    eventually(lambda: not rig.processes())


def test_grace_is_counted_from_the_first_ask_and_survives_a_restart(rig: Rig) -> None:
    rig.start(behaviour="deaf")
    rig.runtime.stop("demo", grace=0.2)
    assert rig.runtime.observe("demo").presence is Presence.RUNNING

    def asked_again() -> bool:
        other = rig.again()
        other.stop("demo", grace=0.2)
        return other.observe("demo").presence is Presence.EXITED

    eventually(asked_again)
    assert rig.runtime.observe("demo").exit_code == -9


def test_it_is_nobodys_child_and_in_a_session_of_its_own(rig: Rig) -> None:
    rig.start()
    shim, main = noted(rig, "shim"), noted(rig, "main")
    seen = proc.look(shim)
    assert seen is not None
    assert seen.parent != os.getpid()
    assert len({os.getsid(0), os.getsid(shim), os.getsid(main)}) == 3


def test_a_killed_supervisor_hides_nothing(rig: Rig) -> None:
    rig.start()
    os.kill(noted(rig, "shim"), signal.SIGKILL)
    assert rig.runtime.observe("demo").presence is Presence.RUNNING
    assert rig.runtime.ensure_run(spec()).presence is Presence.RUNNING
    rig.runtime.stop("demo", grace=60)
    seen = rig.wait_for(Presence.EXITED)
    assert (seen.exit_code, seen.reason) == (None, "supervisor_lost")
    rig.destroy()
    assert not rig.processes()


def test_a_killed_supervisor_and_a_deaf_agent_can_still_be_ended(rig: Rig) -> None:
    rig.start(behaviour="deaf", daemon=True)
    os.kill(noted(rig, "shim"), signal.SIGKILL)
    rig.destroy()
    assert rig.runtime.observe("demo").presence is Presence.ABSENT
    assert not rig.processes()


def test_a_number_that_now_belongs_to_another_process_is_not_the_run(rig: Rig) -> None:
    rig.start()
    document = json.loads((notes(rig) / "process.json").read_text())
    rig.destroy()
    other = subprocess.Popen(["/bin/sleep", "1000"])
    seen = proc.look(other.pid)
    assert seen is not None
    stranger = {"pid": other.pid, "start": seen.process.start - 1}
    document.update(main=stranger, shim=stranger, init=stranger if document["init"] else None)
    intent = {"run": 1, "digest": spec().digest(), "sandboxed": rig.kind == "bwrap", "groups": [], "warnings": []}
    (notes(rig) / "intent.json").write_text(json.dumps(intent))
    (notes(rig) / "process.json").write_text(json.dumps(document))
    try:
        assert rig.runtime.observe("demo").presence is Presence.EXITED
        rig.runtime.stop("demo", grace=0)
        rig.destroy()
        assert rig.runtime.observe("demo").presence is Presence.ABSENT
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_notes_of_an_earlier_boot_are_of_a_run_that_ended(rig: Rig) -> None:
    rig.start()
    document = json.loads((notes(rig) / "process.json").read_text())
    intent = (notes(rig) / "intent.json").read_text()
    rig.destroy()
    (notes(rig) / "intent.json").write_text(intent)
    (notes(rig) / "process.json").write_text(json.dumps({**document, "boot_id": "another"}))
    seen = rig.runtime.observe("demo")
    assert (seen.presence, seen.reason, seen.exit_code) == (Presence.EXITED, "rebooted", None)


@pytest.mark.parametrize("file", ["intent.json", "process.json", "exit.json", "stop.json"])
@pytest.mark.parametrize("text", ["", '{"run": 1', "[]", '{"run": "x"}'])
def test_notes_that_make_no_sense_are_unknown_never_absent(file: str, text: str) -> None:
    with local_rig("none") as rig:
        rig.start()
        (notes(rig) / file).write_text(text)
        assert rig.runtime.observe("demo").presence is Presence.UNKNOWN
        for act in (lambda: rig.runtime.ensure_run(spec()), lambda: rig.runtime.stop("demo", grace=0)):
            with pytest.raises(ClusterFault) as caught:
                act()
            assert caught.value.code == "state_unreadable"
        with pytest.raises(Failure):
            rig.runtime.destroy_volume("demo")
        assert rig.processes()
        groups = [Path(folder) for folder in groups_of(rig)]
        rig.destroy()
        assert rig.runtime.observe("demo").presence is Presence.ABSENT
        assert not rig.processes()
        assert not any(folder.exists() for folder in groups)


def groups_of(rig: Rig) -> list[str]:
    launch = json.loads((notes(rig) / "launch.json").read_text())
    return [str(Path(path).parent) for path in launch["procs"]]


def test_logs_of_the_last_five_runs_are_kept() -> None:
    with local_rig("none") as rig:
        for run in range(1, 8):
            rig.start(run=run)
            rig.destroy()
        kept = {path.name for path in (rig.root / "var/workspaces/demo/log").iterdir()}
        assert kept == {f"run-{run}.jsonl" for run in range(3, 8)}
        assert rig.runtime.logs("demo", run=4)
        assert rig.runtime.logs("demo", run=1) == b""
        assert len(rig.runtime.logs("demo", limit=100)) <= 100


def test_deleting_follows_no_link_and_opens_closed_folders(rig: Rig) -> None:
    outside = rig.root / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (outside / "precious").chmod(0o600)
    rig.start(commands=[f"ln -s {outside} $HOME/link", "mkdir -p $HOME/shut/in && chmod 000 $HOME/shut"])
    rig.destroy()
    rig.runtime.destroy_volume("demo")
    assert (outside / "precious").exists()
    assert rig.runtime.list() == []
    assert list((rig.root / "var/workspaces").iterdir()) == []


def _limits_work() -> bool:
    return any(os.access(path, os.W_OK) for path in map(Path, ("/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids")))


@pytest.mark.skipif(not _limits_work(), reason="control groups are not writable: run as root, or delegate them")
def test_memory_beyond_the_limit_ends_the_run_and_says_why(rig: Rig) -> None:
    rig.runtime.ensure_volume("demo")
    started = rig.runtime.ensure_run(spec(limits=Limits(memory=64 << 20, processes=50, cpu=1), behaviour="eats"))
    assert "no_limits" not in started.warnings
    seen = rig.wait_for(Presence.EXITED)
    assert (seen.exit_code, seen.reason) == (-9, "oom_killed")
    groups = json.loads((notes(rig) / "intent.json").read_text())["groups"]
    rig.destroy()
    assert groups
    assert not any(Path(group).exists() for group in groups)


def test_where_limits_cannot_be_set_it_goes_on_and_says_so() -> None:
    with local_rig("none", cgroup_root=Path("/nonexistent")) as rig:
        rig.start(daemon=True)
        assert "no_limits" in rig.runtime.observe("demo").warnings
        rig.destroy()
        assert not rig.processes()


def test_without_bubblewrap_it_goes_on_and_says_so() -> None:
    with local_rig("auto", bwrap="/nonexistent/bwrap") as rig:
        rig.start()
        assert "no_sandbox" in rig.runtime.observe("demo").warnings


def test_a_required_sandbox_that_is_missing_is_an_error() -> None:
    with local_rig("bwrap", bwrap="/nonexistent/bwrap") as rig:
        rig.runtime.ensure_volume("demo")
        with pytest.raises(ClusterFault) as caught:
            rig.runtime.ensure_run(spec())
        assert caught.value.code == "no_sandbox"
        assert rig.runtime.observe("demo").presence is Presence.ABSENT


def test_a_command_that_is_not_there_is_an_exit(rig: Rig) -> None:
    with local_rig("bwrap" if rig.kind == "bwrap" else "none", command=("/usr/bin/false",)) as other:
        other.runtime.ensure_volume("demo")
        other.runtime.ensure_run(spec())
        assert other.wait_for(Presence.EXITED).exit_code == 1


FULL = """
import json, sys
from pathlib import Path
from kernel.errors import Failure
from tests.runtime.rigs import spec
from workspaces.runtime.local import LocalConfig, LocalRuntime
home = Path(sys.argv[1])
runtime = LocalRuntime(LocalConfig(home=home, run_dir=Path(sys.argv[2]), sandbox="none", command=("/bin/true",)))
runtime.ensure_volume("demo")
try:
    with (home / "filler").open("wb") as file:
        while True:
            file.write(b"x" * 4096)
            file.flush()
except OSError:
    pass
try:
    runtime.ensure_run(spec())
except Failure as failure:
    print(json.dumps([failure.code, failure.user_text, failure.next_step]))
(home / "filler").unlink()
print(runtime.observe("demo").presence)
runtime.destroy_run("demo")
"""


@pytest.mark.bwrap
def test_a_full_disk_is_told_and_starts_nothing(tmp_path: Path) -> None:
    sandbox = ["bwrap", "--bind", "/", "/", "--dev-bind", "/dev", "/dev", "--proc", "/proc"]
    sandbox += ["--size", "262144", "--tmpfs", str(tmp_path)]
    with tempfile.TemporaryDirectory(prefix="slr-", dir="/tmp") as run:
        done = _filled(sandbox, tmp_path, run)
    assert done.returncode == 0, done.stderr
    told, presence = done.stdout.splitlines()[-2:]
    code, user_text, next_step = json.loads(told)
    assert code == "disk_full"
    assert "full" in user_text
    assert next_step
    assert presence == "absent"


def _filled(sandbox: list[str], home: Path, run: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*sandbox, sys.executable, "-c", FULL, str(home), run],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}", "PATH": os.environ["PATH"]},
        check=False,
        capture_output=True,
        text=True,
    )


def test_settings_are_checked() -> None:
    for options in (
        {"home": "/a"},
        {"home": "/a", "run_dir": "relative"},
        {"home": "/a", "run_dir": "/" + "x" * 60},
        {"home": "/a", "run_dir": "/b", "sandbox": "maybe"},
        {"home": "/a", "run_dir": "/b", "colour": "red"},
        {"home": "/a", "run_dir": "/b", "command": []},
    ):
        with pytest.raises(PlatformFault) as caught:
            build(options)
        assert caught.value.code == "runtime_misconfigured"
    assert run_dir_fits(Path("/home/somebody/slipway/var/run"))
    assert LocalConfig(home=Path("/a"), run_dir=Path("/b")).command[1:] == ("-m", "agent")
