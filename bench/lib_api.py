"""The workspace API with 10,000 workspaces on PostgreSQL: one owner who has them all, and 200 owners with 50 each.

The web process is the real one, started with the command of `manage.py up`, one worker; the load comes from a process
of its own, over web's Unix socket. Nothing carries out the intents: what is measured is how fast they are accepted.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.lib import ROOT, Result, descendants, rows, run
from config.env import read
from config.processes import Service, services
from tests.support.git_http import GitServer
from tests.support.github import GitHubServer
from tests.support.valkey import ValkeyServer
from tests.with_postgres import binaries, postgres

CONCURRENCIES = (1, 8)
_BASE = "/api/v1/workspaces"
_START_SECONDS = 60.0


def measure(quick: bool) -> Result:  # noqa: FBT001 - The signature that `bench.lib.run` calls.
    """Everything, on a PostgreSQL and a Valkey of its own."""
    if binaries() is None:
        raise SystemExit("bench/api needs PostgreSQL: install Debian's postgresql")
    count, requests = (1000, 60) if quick else (10_000, 300)
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slb-")))
        (home / "static").mkdir()
        github, git = stack.enter_context(GitHubServer()), stack.enter_context(GitServer(home / "git"))
        github.add("team/app", branches={"main": "a" * 40}, languages={"Python": 1000})
        url = git.create_repository("team/app", {"README.md": "hello"}).url
        environment = _environment(
            SLIPWAY_HOME=str(home),
            DATABASE_URL=stack.enter_context(postgres()),
            REDIS_URL=stack.enter_context(ValkeyServer(home)).url,
            SLIPWAY_GITHUB_API_URL=github.api_url,
            SLIPWAY_GITHUB_URL=github.url,
            SLIPWAY_MAX_WORKSPACES="1000000",
            SLIPWAY_LOOKUPS_PER_MINUTE="1000000",
        )
        seeded = _program("bench.lib_api_data", "seed", str(count), environment=environment)
        counts = _program("bench.lib_api_data", "queries", environment=environment, given=seeded)
        socket, pid = stack.enter_context(_web(home, environment))
        cases = list(_cases(seeded, requests, {"GitHub, cached": "team/app", "git over HTTP": url}))
        plan = {"socket": str(socket), "pid": pid, "cases": cases}
        figures = _program("bench.lib_load", environment=environment, given=plan)
    return {"benchmark": "api", "workspaces_of_one_owner": count, "workspaces_in_all": 2 * count + 10,
            "database": "PostgreSQL", "web_workers": 1, "cases": figures, "queries": counts}  # fmt: skip


def _environment(**values: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLIPWAY_", "DJANGO_"))}
    paths = os.pathsep.join([str(ROOT / "platform"), str(ROOT)])
    return {**kept, "PYTHONPATH": paths, "DJANGO_SETTINGS_MODULE": "config.settings", **values}


def _program(module: str, *arguments: str, environment: dict[str, str], given: Any = None) -> Any:
    """Run a module; JSON in, JSON out."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, input=json.dumps(given), stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def _web(home: Path, environment: dict[str, str]) -> Iterator[tuple[Path, int]]:
    """The web process; gives its socket and the process id of its worker."""
    env = read(environment)
    env.run.mkdir(exist_ok=True)
    service = next(one for one in services(env, environment) if one.name == "web")
    with (home / "web.log").open("wb") as log:
        process = subprocess.Popen(service.command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        _wait_until_ready(service, process, home / "web.log")
        master, *workers = descendants(process.pid)
        if len(workers) != 1:
            raise RuntimeError(f"web has {len(workers)} workers below {master}, not one")
        yield env.run / "web.sock", workers[0]
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_ready(service: Service, process: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + _START_SECONDS
    while not service.ready():
        if process.poll() is not None or time.monotonic() > ends:
            raise RuntimeError(f"web did not start:\n{log.read_text()}")
        time.sleep(0.1)


def _cases(seeded: dict[str, Any], requests: int, repos: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Each kind of request, with one client and with eight."""
    big, many = seeded["big"], [owner for name, owner in seeded.items() if name.startswith("many")]
    token = big["token"]
    fifty = [[["GET", _BASE, owner["token"], None]] for owner in many]
    details = [["GET", f"{_BASE}/{pk}", token, None] for pk, _ in big["workspaces"]]
    standing = {state: [pk for pk, at in big["workspaces"] if at == state] for state in ("running", "stopped")}
    endless: dict[str, Iterator[Any]] = {
        f"list, owner of {len(big['workspaces'])}": itertools.repeat(["GET", _BASE, token, None]),
        "list, owner of 50": itertools.chain.from_iterable(itertools.cycle(fifty)),
        "list, 200 per page": itertools.repeat(["GET", f"{_BASE}?limit=200", token, None]),
        "list, one state": itertools.repeat(["GET", f"{_BASE}?state=failed", token, None]),
        "detail": itertools.cycle(details),
        "stop": iter([["POST", f"{_BASE}/{pk}/stop", token, None] for pk in standing["running"]]),
        "start": iter([["POST", f"{_BASE}/{pk}/start", token, None] for pk in standing["stopped"]]),
        **{
            f"create ({name})": itertools.repeat(["POST", _BASE, token, {"repo": repo, "branch": "main"}])
            for name, repo in repos.items()
        },
    }
    for concurrency in CONCURRENCIES:
        for name, source in endless.items():
            # Quick runs have few workspaces, and each can be stopped only once.
            taken = list(itertools.islice(source, requests + 10))
            yield {"name": name, "concurrency": concurrency, "warm_up": 10, "requests": taken}


def table(result: Result) -> str:
    """Times, then statements."""
    keys = ("requests", "p50_ms", "p95_ms", "p99_ms", "requests_per_second", "web_cpu_ms_per_request")
    head = (f"{result['workspaces_in_all']} workspaces", "clients", "requests", "p50 ms", "p95 ms", "p99 ms", "req/s",
            "web CPU ms/req")  # fmt: skip
    times = rows(head, [[case["name"], case["concurrency"], *(case[key] for key in keys)] for case in result["cases"]])
    shown = [[name, count["few"], count["big"]] for name, count in result["queries"].items()]
    statements = rows(("SQL statements", "owner of 10", f"owner of {result['workspaces_of_one_owner']}"), shown)
    return f"{times}\n\n{statements}"


def main() -> None:
    """Run it."""
    run("The workspace API with 10,000 workspaces on PostgreSQL.", measure, table)
