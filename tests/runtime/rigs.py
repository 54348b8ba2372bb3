"""Real runtimes to test against: a small script stands for the agent."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kernel.errors import ClusterFault
from tests.support.waiting import eventually
from workspaces.runtime.fake import FakeOptions, FakeRuntime
from workspaces.runtime.local import LocalConfig, LocalRuntime
from workspaces.runtime.local import processes as proc
from workspaces.runtime.port import Limits, Observation, Presence, RunSpec, Runtime

AGENT = """
import json, os, signal, subprocess, sys, time
spec = json.load(open(os.environ["SLIPWAY_AGENT_SPEC"]))
behaviour = spec.get("behaviour", "good")
def say(**values):
    print(json.dumps(values), flush=True)
def leave(*_):
    say(text="goodbye")
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "deaf" else leave)
for command in spec.get("commands", []):
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True)
    say(command=command, out=done.stdout, err=done.stderr, code=done.returncode)
if spec.get("daemon"):
    subprocess.Popen(["/bin/sh", "-c", "exec sleep 1000"], start_new_session=True)
if behaviour == "exits":
    sys.exit(3)
if behaviour == "eats":
    kept = []
    while True:
        kept.append(b"x" * 1_000_000)
say(text="ready", environment=dict(os.environ), cwd=os.getcwd())
while True:
    # Not signal.pause(): a signal that comes just before it would be waited for again.
    time.sleep(0.5)
"""


def spec(name: str = "demo", run: int = 1, *, limits: Limits | None = None, **agent: Any) -> RunSpec:
    return RunSpec(name, run, agent, {"run_token": "s3cret"}, limits or Limits(processes=200))


@dataclasses.dataclass
class Rig:
    """A runtime, and how to bring about what the contract speaks of.

    `scheme` begins the addresses of its runs. `ended` is how a run that was ended in order is seen: some keep it.
    """

    kind: str
    runtime: Runtime
    root: Path
    again: Callable[[], Runtime]
    scheme: str = "unix:/"
    ended: Presence = Presence.EXITED
    patience: float = 20

    def start(self, name: str = "demo", run: int = 1, **agent: Any) -> Observation:
        self.runtime.ensure_volume(name)
        seen = self.runtime.ensure_run(spec(name, run, **agent))
        if self.kind != "fake" and agent.get("behaviour") not in {"exits", "eats"}:
            # A machine may tell of a program's words before it tells that the program runs.
            eventually(
                lambda: b'"ready"' in self.runtime.logs(name) and self.runtime.observe(name).started_at is not None,
                timeout=self.patience,
                what="the agent is ready",
            )
        return seen

    def said(self, name: str = "demo") -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.runtime.logs(name).splitlines() if line.startswith(b"{")]

    def wait_for(self, presence: Presence, name: str = "demo") -> Observation:
        eventually(
            lambda: self.runtime.observe(name).presence is presence, timeout=self.patience, what=f"{name} is {presence}"
        )
        return self.runtime.observe(name)

    def wait_for_end(self, *, code: int, name: str = "demo") -> None:
        """Wait until a run that was asked to end has, with this exit code where that is kept."""
        seen = self.wait_for(self.ended, name)
        assert seen.exit_code == (code if self.ended is Presence.EXITED else None)

    def destroy(self, name: str = "demo") -> None:
        """End a run for good. One call may give up on a busy machine, and says then that it can be repeated."""

        def done() -> bool:
            try:
                self.runtime.destroy_run(name)
            except ClusterFault as fault:
                if not fault.temporary:
                    raise
                return False
            return True

        eventually(done, timeout=self.patience, what=f"the run of {name} is destroyed")

    def processes(self) -> set[int]:
        """Every process that mentions this rig's folder, its own test process aside."""
        found = set()
        for seen in proc.every():
            with contextlib.suppress(OSError):
                folder = Path("/proc") / str(seen.process.pid)
                text = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
                if str(self.root).encode() in text and seen.process.pid != os.getpid():
                    found.add(seen.process.pid)
        return found


@contextlib.contextmanager
def local_rig(sandbox: str, **options: Any) -> Iterator[Rig]:
    with _folder() as root:
        (root / "agent").mkdir()
        (root / "agent" / "__main__.py").write_text(AGENT)
        (root / "platform").mkdir()
        values: dict[str, Any] = {
            "home": root / "var",
            "run_dir": root / "r",
            "platform_socket_dir": root / "platform",
            "agent_root": root / "agent",
            "command": ("/usr/bin/python3", "-u", "-m", "agent"),
            "sandbox": sandbox,
            **options,
        }
        runtime = LocalRuntime(LocalConfig(**values))
        rig = Rig(sandbox, runtime, root, lambda: LocalRuntime(LocalConfig(**values)))
        try:
            yield rig
        finally:
            for entry in runtime.list():
                rig.destroy(entry.name)
            for pid in rig.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def fake_rig(options: FakeOptions | None = None) -> Iterator[Rig]:
    with _folder() as root:
        # Each look at this clock is a second later than the one before: nobody has to wait.
        ticks = itertools.count(1_800_000_000)

        def build() -> Runtime:
            return FakeRuntime(options, folder=root, clock=lambda: float(next(ticks)))

        yield Rig("fake", build(), root, build)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    # Not pytest's own: its path is too long for sockets, and shut to the workspace's user.
    root = Path(tempfile.mkdtemp(prefix="slw-", dir="/tmp"))
    root.chmod(0o755)
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)
