"""From `POST /api/v1/workspaces` to an editor that answers, on the real platform, again and again.

In the same run and with the same repository, code-server and `git clone` are started bare, both at once as a workspace
does it: what the platform adds is the difference.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.lib import Result, rows, run, summary
from bench.lib_starts import REPOSITORY_MB, open_editor, repository, seconds, until
from config import ide
from tests.support.git_http import GitServer
from tests.support.git_repos import Repository
from tests.support.platform import ROOT, Platform

STEPS = ("queued", "volume", "container", "content", "ide")
_PATIENCE = 90.0


def measure(quick: bool) -> Result:  # noqa: FBT001 - The signature that `bench.lib.run` calls.
    """Cold starts one after another, each followed by a bare start of the same parts."""
    count = 3 if quick else 10
    ours: list[dict[str, float]] = []
    bare: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="slb-") as name, GitServer(Path(name) / "git") as git:
        app = repository(git)
        with Platform() as platform:
            _ = platform.token  # Made now, not within the first create.
            # The first start of all compiles the agent and fills the page cache: it is shown, but not counted.
            first = _cold_start(platform, app.url)
            for number in range(count):
                ours.append(_cold_start(platform, app.url))
                bare.append(_bare(Path(name) / f"bare-{number}", app))
    shares = (50, 95)
    result: Result = {
        "benchmark": "cold_start",
        "count": count,
        "repository_mb": REPOSITORY_MB,
        "first_s": round(first["total"], 3),
        "phases_s": {key: summary([one[key] for one in ours], *shares) for key in ours[0]},
        "bare_s": {key: summary([one[key] for one in bare], *shares) for key in bare[0]},
    }
    beyond = [one["total"] - other["both"] for one, other in zip(ours, bare, strict=True)]
    result["ours_beyond_s"] = summary(beyond, *shares)
    return result


def _cold_start(platform: Platform, url: str) -> dict[str, float]:
    """Seconds of each phase of one new workspace, which is deleted again."""
    began = time.time()
    workspace = platform.create(url)
    answered = time.time()
    seen = until(platform, workspace["id"], "running")
    running = time.time()
    open_editor(platform, workspace["slug"])
    ended = time.time()
    phases = _phases(seen, began)
    platform.api("DELETE", f"/workspaces/{workspace['id']}")
    until(platform, workspace["id"], "deleted")
    return {
        "total": ended - began,
        "create answers": answered - began,
        **phases,
        "running is told": running - seconds(seen["started_at"]),
        "page through gateway": ended - running,
    }


def _phases(workspace: dict[str, Any], began: float) -> dict[str, float]:
    steps = {step["type"]: step for step in workspace["conditions"]}
    found = {f"  {kind}": seconds(steps[kind]["finished_at"]) - seconds(steps[kind]["started_at"]) for kind in STEPS}
    launched = seconds(steps["container"]["finished_at"])
    found["until launched"] = launched - began
    found["launched until agent"] = min(seconds(steps[kind]["started_at"]) for kind in ("content", "ide")) - launched
    found["ide ready until running"] = seconds(workspace["started_at"]) - seconds(steps["ide"]["finished_at"])
    return found


def _bare(folder: Path, repository: Repository) -> dict[str, float]:
    """Seconds of the same clone and of code-server's own start: alone, and both at once."""
    found: dict[str, float] = {}
    folder.mkdir()
    found["clone alone"] = _timed(lambda: _clone(repository, folder / "one"))
    with _code_server(folder, "one") as answers:
        found["code-server alone"] = _timed(answers)
    began = time.monotonic()
    cloning = threading.Thread(target=_clone, args=(repository, folder / "two"))
    cloning.start()
    with _code_server(folder, "two") as answers:
        answers()
        cloning.join()
        found["both"] = time.monotonic() - began
    shutil.rmtree(folder)
    return found


def _timed(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _clone(repository: Repository, target: Path) -> None:
    """One commit only: the least that gives a work tree, and what the agent begins with."""
    command = ["git", "clone", "--quiet", "--depth", "1", repository.url, str(target)]
    subprocess.run(command, check=True, env={"PATH": os.environ["PATH"], "HOME": str(target.parent)})


@contextlib.contextmanager
def _code_server(folder: Path, name: str) -> Iterator[Callable[[], None]]:
    """code-server on a socket, started now; gives a function that returns once its page answers."""
    home, path = folder / f"home-{name}", folder / f"{name}.sock"
    home.mkdir()
    (home / "config.yaml").write_text("auth: none\ncert: false\n")
    command = [
        *(str(ide.NODE.resolve()), str(ide.entry(ROOT / "var").resolve()), "--config", str(home / "config.yaml")),
        *("--user-data-dir", str(home / "data"), "--extensions-dir", str(home / "extensions")),
        *("--auth", "none", "--socket", str(path), "--disable-telemetry", "--disable-update-check"),
        *("--disable-workspace-trust", "--", str(home)),
    ]
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home)}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, cwd=home, stdin=quiet, stdout=quiet, stderr=quiet) as process:
        try:
            yield lambda: _wait_for_page(path, f"/?folder={home}")
        finally:
            process.terminate()


def _wait_for_page(path: Path, target: str) -> None:
    ends = time.monotonic() + _PATIENCE
    while time.monotonic() < ends:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if _status(path, target) == 200:
                return
        time.sleep(0.02)
    raise RuntimeError("code-server did not answer")


def _status(path: Path, target: str) -> int:
    connection = http.client.HTTPConnection("localhost", timeout=_PATIENCE)
    with contextlib.closing(connection):
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(_PATIENCE)
        connection.sock.connect(str(path))
        connection.request("GET", target)
        return connection.getresponse().status


def table(result: Result) -> str:
    """The phases, then the bare parts."""
    body: list[list[object]] = [[key, *values.values()] for key, values in result["phases_s"].items()]
    body += [[f"bare: {key}", *values.values()] for key, values in result["bare_s"].items()]
    body.append(["ours beyond clone and code-server", *result["ours_beyond_s"].values()])
    head = (f"cold start, {result['repository_mb']} MB, {result['count']} times", "p50 s", "p95 s")
    return f"{rows(head, body)}\nthe very first start: {result['first_s']:.2f} s"


def main() -> None:
    """Run it."""
    run("From `POST /workspaces` to an editor that answers, phase by phase.", measure, table)
