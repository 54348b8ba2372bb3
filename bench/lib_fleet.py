"""Many workspaces in a cluster: 1,000 starts by one worker process, then 10,000 that run already, at rest.

Everything is real but the nodes: kwok plays kubelets that run nothing, and `lib_fleet_agents` the agents in their
pods. All of it shares this machine: API server, etcd, controllers and scheduler, PostgreSQL, the platform, the load.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families

from bench.lib import ROOT, Result, Usage, parent_of, rows, run, summary, usage
from bench.lib_rest import named
from tests.cluster import programs, scale
from tests.cluster.api import Api
from tests.cluster.control_plane import ControlPlane
from tests.support.git_http import GitServer
from tests.support.platform import Platform, free_port
from tests.with_postgres import binaries, postgres

INSTANCE = "fleet"
PREFIX = "fl-"
_CLIENTS = 4
_PODS_PER_NODE = 500
_SETTLE, _REST = 30.0, 60.0
_LONGEST = 1800.0
_AT_REST = ("rss_mib", "cpu_percent")


def measure(quick: bool) -> Result:  # noqa: FBT001 - The signature that `bench.lib.run` calls.
    """Starts first, then rest."""
    if binaries() is None:
        raise SystemExit("bench/fleet needs PostgreSQL: install Debian's postgresql")
    for group in ("control-plane", "scale"):
        programs.ensure(group)
    starts, resting = (50, 500) if quick else (1000, 10_000)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slb-")))
        cluster = stack.enter_context(ControlPlane.run())
        nodes = resting // _PODS_PER_NODE + 1
        stack.enter_context(scale.simulated_nodes(cluster, nodes, pods=_PODS_PER_NODE))
        git = stack.enter_context(GitServer(folder / "git"))
        url = git.create_repository("team/app", {"README.md": "hello"}).url
        operator = free_port()
        platform = stack.enter_context(_platform(folder, cluster, stack.enter_context(postgres()), operator))
        found = _start_all(folder, cluster, platform, url, starts)
        rest = _rest(cluster, platform, operator, resting - starts)
    return {"benchmark": "fleet", "starts": found, "rest": {"workspaces": resting, **rest}}


@contextlib.contextmanager
def _platform(folder: Path, cluster: ControlPlane, database: str, operator: int) -> Iterator[Platform]:
    options = {
        "kubeconfig": str(cluster.kubeconfig), "instance": INSTANCE, "prefix": PREFIX,
        "image": "registry.example/workspace:1", "delivery": "init",
    }  # fmt: skip
    (folder / "options.yaml").write_text(yaml.safe_dump(options))
    platform = Platform(
        DATABASE_URL=database,
        SLIPWAY_RUNTIME="k8s",
        SLIPWAY_KUBERNETES_OPTIONS=str(folder / "options.yaml"),
        SLIPWAY_OPERATOR_LISTEN=f"127.0.0.1:{operator}",
        SLIPWAY_MAX_WORKSPACES="1000000",
        SLIPWAY_LOOKUPS_PER_MINUTE="1000000",
        SLIPWAY_LOG_FORMAT="json",
    )
    try:
        platform.start()
        yield platform
    finally:
        # The cluster goes as a whole: nothing is deleted one by one.
        platform.stop()


def _start_all(folder: Path, cluster: ControlPlane, platform: Platform, url: str, count: int) -> dict[str, Any]:
    """Ask for all of them as fast as the API answers, and wait until they run."""
    platform.create(url)
    before = _used(platform)
    answers: list[float] = []
    with _agents(folder, cluster, platform) as told:
        began = time.time()

        def ask(_: int) -> None:
            asked = time.perf_counter()
            status, answer = platform.api("POST", "/workspaces", {"repo": url, "branch": "main"})
            answers.append(time.perf_counter() - asked)
            if status != 201:
                raise RuntimeError(f"create answered {status}: {answer}")

        with ThreadPoolExecutor(_CLIENTS) as clients:
            list(clients.map(ask, range(count)))
        asked_for = time.time() - began
        _until(lambda: len(told) > count, what=lambda: f"{len(told)} of {count + 1} pods were ready")
        times = _finished(platform, count + 1)
    after, counted = _used(platform), _counted(platform)
    return _figures(times, told, answers, asked_for, began) | {
        "count": count,
        "processes": {
            name: {"cpu_s": round(after[name].cpu - used.cpu, 1), "rss_mib": round(after[name].rss)}
            for name, used in before.items()
            if name in after
        },
        "requests_per_start": _each(counted["requests"], count + 1),
        "looks_per_start": _each(counted["looks"], count + 1),
        "worker_cpu_per_start_ms": round((after["worker"].cpu - before["worker"].cpu) / count * 1000),
    }


def _figures(
    times: dict[str, Any], told: dict[str, dict[str, float]], answers: list[float], asked_for: float, began: float
) -> dict[str, Any]:
    starts = {slug: at for slug, at in times["starts"].items() if slug in told and at[0] >= began}
    totals = [running - asked for asked, running in starts.values()]
    beyond = [running - asked - (told[slug]["ready"] - told[slug]["seen"]) for slug, (asked, running) in starts.items()]
    ready = [running - told[slug]["ready"] for slug, (_, running) in starts.items()]
    reported = [running - told[slug]["reported"] for slug, (_, running) in starts.items()]
    return {
        "all_running_s": round(max(running for _, running in starts.values()) - began, 1),
        "asked_for_s": round(asked_for, 1),
        "to_running_s": summary(totals, 50, 95),
        "beyond_the_pod_s": summary(beyond, 50, 95),
        "ready_to_running_s": summary(ready, 50, 95),
        "reported_to_running_s": summary(reported, 50, 95),
        "create_answers_ms": summary([one * 1000 for one in answers], 50, 95, digits=0),
        "failed": times["failed"],
        "started_again": times["again"],
    }


def _finished(platform: Platform, count: int) -> dict[str, Any]:
    ends = time.monotonic() + _LONGEST
    while True:
        times: dict[str, Any] = json.loads(platform.python("-m", "bench.lib_fleet_data", "times"))
        if len(times["starts"]) >= count:
            return times
        if time.monotonic() > ends:
            raise RuntimeError(f"not all run: {times['states']}, {times['failed']} failed")
        time.sleep(2)


@contextlib.contextmanager
def _agents(folder: Path, cluster: ControlPlane, platform: Platform) -> Iterator[dict[str, dict[str, float]]]:
    """Agents for all pods; what they tell, by slug, comes in while the block runs."""
    told: dict[str, dict[str, float]] = {}
    socket = platform.home / "run" / "agents" / "platform.sock"
    command = [sys.executable, "-m", "bench.lib_fleet_agents", str(cluster.kubeconfig), INSTANCE, str(socket)]
    with (folder / "agents.err").open("wb") as err:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=err, text=True)

    def listen() -> None:
        for line in process.stdout or ():
            said = json.loads(line)
            told[said["slug"]] = said

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        yield told
    finally:
        process.terminate()
        process.wait(20)
        listener.join()


def _used(platform: Platform) -> dict[str, Usage]:
    return {name: usage(pid) for pid, name in named(parent_of(platform.pid_of("web"))).items()}


def _counted(platform: Platform) -> dict[str, dict[str, int]]:
    """What all processes have counted: requests to the API server by kind, the worker's looks by what they led to.

    Both grow from the platform's start on.
    """
    transport = httpx.HTTPTransport(uds=str(platform.home / "run" / "web.sock"))
    with httpx.Client(transport=transport, base_url="http://web", timeout=30) as web:
        text = web.get("/metrics").raise_for_status().text
    found: dict[str, Counter[str]] = {"requests": Counter(), "looks": Counter()}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            said = sample.labels
            if sample.name == "slipway_kubernetes_request_seconds_count":
                found["requests"][f"{said['method']} {said['kind']}"] += int(sample.value)
            elif sample.name == "slipway_reconcile_runs_total":
                found["looks"][said["action"]] += int(sample.value)
    return {what: dict(counts.most_common()) for what, counts in found.items()}


def _each(counts: dict[str, int], starts: int) -> dict[str, float]:
    """For one start, and for all kinds together."""
    return {"all": round(sum(counts.values()) / starts, 1)} | {
        kind: round(count / starts, 2) for kind, count in counts.items()
    }


def _rest(cluster: ControlPlane, platform: Platform, operator: int, more: int) -> dict[str, Any]:
    """Add workspaces that run already, begin the operator anew, and look at everything while nothing happens."""
    # While nobody looks: pods without a workspace would be noted as such, and workspaces without a pod be started.
    platform.stop()
    _fill(cluster, [f"rest-{number:05d}" for number in range(more)])
    platform.python("-m", "bench.lib_fleet_data", "seed", str(more))
    platform.start()
    _until(lambda: _synced(operator), what=lambda: "the operator has synced", seconds=300)
    platform.kill("operator")
    killed = time.monotonic()
    _until(lambda: _synced(operator), what=lambda: "the operator has synced", seconds=300)
    synced = time.monotonic() - killed
    # The first look at everything, and what it leads to.
    time.sleep(_SETTLE)
    before, began = _used(platform), time.monotonic()
    time.sleep(_REST)
    after, elapsed = _used(platform), time.monotonic() - began
    return {
        "operator_killed_to_synced_s": round(synced, 1),
        "processes": {
            name: {"rss_mib": round(used.rss), "cpu_percent": round((used.cpu - before[name].cpu) / elapsed * 100, 2)}
            for name, used in after.items()
            if name in before
        },
    }


def _fill(cluster: ControlPlane, slugs: list[str]) -> None:
    """A namespace, a claim and a pod for each, as the operator would have left them; without their walls."""
    local = threading.local()

    def make(slug: str) -> None:
        if not hasattr(local, "api"):
            local.api = Api(cluster.kubeconfig)
        name = f"{PREFIX}{slug}"
        labels = {
            "slipway.dev/instance": INSTANCE,
            "slipway.dev/workspace": slug,
            "app.kubernetes.io/managed-by": "slipway",
        }
        meta = {"name": name, "labels": labels}
        local.api.post("/api/v1/namespaces", json={"metadata": meta})
        place = f"/api/v1/namespaces/{name}"
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        local.api.post(f"{place}/persistentvolumeclaims", json={"metadata": meta, "spec": spec})
        pod = {
            "metadata": {"name": name, "labels": {**labels, "slipway.dev/run": "1"}},
            "spec": {
                "automountServiceAccountToken": False,
                "containers": [{"name": "workspace", "image": "registry.example/workspace:1"}],
                "nodeName": f"simulated-{hash(slug) % (len(slugs) // _PODS_PER_NODE + 1)}",
            },
        }
        _until(lambda: _accepted(local.api, f"{place}/pods", pod), what=lambda: f"a pod in {name}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, slugs))


def _accepted(api: Api, path: str, body: dict[str, Any]) -> bool:
    """A namespace has no account for its pods in its first moments."""
    try:
        api.post(path, json=body)
    except httpx.HTTPStatusError as refusal:
        if refusal.response.status_code != 403:
            raise
        return False
    return True


def _synced(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _until(done: Callable[[], bool], *, what: Callable[[], str], seconds: float = _LONGEST) -> None:
    ends = time.monotonic() + seconds
    while not done():
        if time.monotonic() > ends:
            raise RuntimeError(f"not within {seconds:g} s: {what()}")
        time.sleep(0.1)


def table(result: Result) -> str:
    """Starts, then rest."""
    starts, rest = result["starts"], result["rest"]
    spans = [
        [words, starts[key]["p50"], starts[key]["p95"]]
        for words, key in (
            ("asked for until running", "to_running_s"),
            ("of which beyond the pod's own", "beyond_the_pod_s"),
            ("pod ready until running", "ready_to_running_s"),
            ("of which after its agent's report", "reported_to_running_s"),
        )
    ]
    first = rows((f"{starts['count']} starts, seconds", "p50", "p95"), spans)
    said = (
        f"all asked for after {starts['asked_for_s']} s, all running after {starts['all_running_s']} s;"
        f" {starts['failed']} failed, {starts['started_again']} started again;"
        f" {starts['requests_per_start']['all']} requests to the API server for each,"
        f" {starts['looks_per_start']['all']} looks at it,"
        f" {starts['worker_cpu_per_start_ms']} ms of the worker's processor;"
        f" create answers in {starts['create_answers_ms']['p50']:.0f} ms (p95 {starts['create_answers_ms']['p95']:.0f})"
    )
    used = rows(
        ("process", "CPU s, starts", "RSS MiB, starts", f"RSS MiB, {rest['workspaces']} at rest", "CPU %, at rest"),
        [
            [name, one["cpu_s"], one["rss_mib"], *(rest["processes"].get(name, {}).get(key) for key in _AT_REST)]
            for name, one in starts["processes"].items()
        ],
    )  # fmt: skip
    counts = "\n".join(
        f"{what}, each start: "
        + ", ".join(f"{kind} {count}" for kind, count in starts[f"{what}_per_start"].items() if kind != "all")
        for what in ("requests", "looks")
    )
    synced = f"operator killed until synced again: {rest['operator_killed_to_synced_s']} s"
    return f"{first}\n{said}\n{counts}\n\n{used}\n{synced}"


def main() -> None:
    """Run it."""
    run("1,000 starts and 10,000 workspaces at rest, on simulated kubelets.", measure, table)
