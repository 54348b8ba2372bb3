"""From a request to an editor that answers, on a real node: new workspaces, and those that wake from hibernation.

Each way in which a pod may be built has a platform of its own; all share the node, and this machine with it.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.lib import Result, rows, run, summary
from bench.lib_node_pods import Pods
from bench.lib_starts import REPOSITORY_MB, open_editor, repository, seconds, until
from tests.cluster import images, network, programs
from tests.cluster.control_plane import ControlPlane
from tests.cluster.node import Node
from tests.support.cluster_platform import ClusterPlatform
from tests.support.git_http import GitServer

# How the editor gets into the pod, and whose users it has.
WAYS: dict[str, dict[str, Any]] = {
    "mounted": {"delivery": "image_volume"},
    "copied": {"delivery": "init"},
    "copied, hostUsers: false": {"delivery": "init", "host_users": False},
}
_COPIED = "init"
_SHARES = (50, 95)


def measure(quick: bool) -> Result:  # noqa: FBT001 - The signature that `bench.lib.run` calls.
    """One way after another; of each, workspaces one after another: created, stopped, woken, deleted."""
    if cure := programs.missing("node", may_build=True):
        raise SystemExit(f"bench/node_start needs a real node: {cure}")
    programs.ensure("node")
    count = 3 if quick else 10
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slb-")))
        cluster = stack.enter_context(ControlPlane.run())
        node = stack.enter_context(Node.run(cluster))
        node.load_image(images.workspace_archive(programs.cache_folder()))
        node.load_image(images.ide_archive(programs.cache_folder().parent, programs.path("kubectl")))
        # On the node's link, as pods reach this machine.
        url = repository(stack.enter_context(GitServer(folder / "git", network.MACHINE))).url
        pods = stack.enter_context(Pods.watched(cluster.kubeconfig))
        ways = {name: _way(ClusterPlatform(node, folder, **way), way, pods, url, count) for name, way in WAYS.items()}
    return {"benchmark": "node_start", "count": count, "repository_mb": REPOSITORY_MB, "ways": ways}


def _way(platform: ClusterPlatform, way: dict[str, Any], pods: Pods, url: str, count: int) -> dict[str, Any]:
    lives: list[dict[str, dict[str, float]]] = []
    copies = way["delivery"] == _COPIED
    try:
        platform.start()
        _ = platform.token  # Made now, not within the first create.
        # The first start reads both images from the disk: it is shown, but not counted.
        first = _life(platform, pods, url, copies=copies)["start"]["total"]
        lives.extend(_life(platform, pods, url, copies=copies) for _ in range(count))
    finally:
        platform.close()
    found: dict[str, Any] = {
        kind: {phase: summary([life[kind][phase] for life in lives], *_SHARES) for phase in lives[0][kind]}
        for kind in lives[0]
    }
    return {"first_s": round(first, 3), **found}


def _life(platform: ClusterPlatform, pods: Pods, url: str, *, copies: bool) -> dict[str, dict[str, float]]:
    """Seconds of each phase of a start, of the stop after it, and of the wake after that."""
    began = time.time()
    workspace = platform.create(url)
    start = _until_open(platform, pods, workspace, began, run=1, copies=copies)
    path = f"/workspaces/{workspace['id']}"
    began = time.time()
    _ask(platform, "POST", f"{path}/stop")
    until(platform, workspace["id"], "stopped")
    stop = {"total": time.time() - began}
    began = time.time()
    _ask(platform, "POST", f"{path}/start")
    wake = _until_open(platform, pods, workspace, began, run=2, copies=copies)
    _ask(platform, "DELETE", path)
    until(platform, workspace["id"], "deleted")
    return {"start": start, "stop": stop, "wake": wake}


def _ask(platform: ClusterPlatform, method: str, path: str) -> None:
    status, answer = platform.api(method, path)
    if status not in {200, 202}:
        raise RuntimeError(f"{method} {path} answered {status}: {answer}")


def _until_open(
    platform: ClusterPlatform, pods: Pods, workspace: dict[str, Any], began: float, *, run: int, copies: bool
) -> dict[str, float]:
    """Wait until the editor's page is there, and say how long each phase took.

    The phases from "queued" to "container" follow one another; "content" and "ide" begin side by side after them.
    """
    answered = time.time()
    seen = until(platform, workspace["id"], "running")
    told = time.time()
    open_editor(platform, workspace["slug"])
    ended = time.time()
    steps = {step["type"]: step for step in seen["conditions"]}
    agent = min(seconds(steps[kind]["started_at"]) for kind in ("content", "ide"))
    wanted = ("made", "scheduled", "placed", *(["copied"] if copies else []), "pulled")
    heard = pods.moments(f"{platform.tag}-{workspace['slug']}", run, wanted)
    words = {"made": "walls and pod", "scheduled": "scheduled", "placed": "volume", "copied": "copy", "pulled": "image"}
    times = {"queued": seconds(steps["queued"]["finished_at"]), **{words[key]: heard[key] for key in wanted}}
    phases = _spans({**times, "container": agent}, began)
    for kind in ("content", "ide"):
        phases[kind] = seconds(steps[kind]["finished_at"]) - seconds(steps[kind]["started_at"])
    return {
        "total": ended - began,
        "answered": answered - began,
        **phases,
        "ide ready until running": seconds(seen["started_at"]) - seconds(steps["ide"]["finished_at"]),
        "running is told": told - seconds(seen["started_at"]),
        "page through gateway": ended - told,
    }


def _spans(ends: dict[str, float], began: float) -> dict[str, float]:
    """How long each of the phases took that follow one another, from when each was seen to have ended.

    The cluster may tell of an end later than of what comes after it: what has gone on has ended.
    """
    latest = math.inf
    for phase, at in reversed(ends.items()):
        latest = min(latest, at)
        ends = {**ends, phase: latest}
    spans: dict[str, float] = {}
    for phase, at in ends.items():
        spans[phase], began = max(at - began, 0.0), max(at, began)
    return spans


def table(result: Result) -> str:
    """A table for each way: starts beside wakes."""
    parts = [f"{result['count']} workspaces for each way, {result['repository_mb']} MB"]
    for name, way in result["ways"].items():
        head = (f"{name}, seconds", "start p50", "p95", "wake p50", "p95")
        body = [[phase, *way["start"][phase].values(), *way["wake"][phase].values()] for phase in way["start"]]
        stop = way["stop"]["total"]
        said = f"the very first start: {way['first_s']:.2f} s; a stop: {stop['p50']:.2f} s (p95 {stop['p95']:.2f} s)"
        parts.append(f"{rows(head, body)}\n{said}")
    return "\n\n".join(parts)


def main() -> None:
    """Run it."""
    run("From a request to an editor that answers, on a real node: starts and wakes, phase by phase.", measure, table)
