"""The API's load generator, a process of its own: `python -m bench.lib_load`, plan on stdin, figures on stdout.

The plan is `{"socket": path, "pid": web worker, "cases": [{"name", "concurrency", "warm_up", "requests":
[[method, path, token, body], …]}]}`. Each case is a closed loop: so many clients, each asking again as soon as
it has its answer.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import aiohttp

from bench.lib import summary, usage

Request = tuple[str, str, str, Any]


async def play(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """All cases, one after another."""
    found = []
    for case in plan["cases"]:
        connector = aiohttp.UnixConnector(path=plan["socket"], limit=case["concurrency"])
        async with aiohttp.ClientSession(connector=connector, base_url="http://localhost") as session:
            found.append(await _case(session, plan["pid"], case))
    return found


async def _case(session: aiohttp.ClientSession, pid: int, case: dict[str, Any]) -> dict[str, Any]:
    requests = iter(case["requests"])
    for _ in range(case["warm_up"]):
        await _ask(session, next(requests))
    times: list[float] = []
    cpu, began = usage(pid).cpu, time.perf_counter()
    async with asyncio.TaskGroup() as clients:
        for _ in range(case["concurrency"]):
            clients.create_task(_client(session, requests, times))
    elapsed = time.perf_counter() - began
    cpu = usage(pid).cpu - cpu
    return {
        "name": case["name"],
        "concurrency": case["concurrency"],
        "requests": len(times),
        **{f"{key}_ms": value for key, value in summary([one * 1000 for one in times], 50, 95, 99, digits=1).items()},
        "requests_per_second": round(len(times) / elapsed, 1),
        "web_cpu_ms_per_request": round(cpu / len(times) * 1000, 2),
    }


async def _client(session: aiohttp.ClientSession, requests: Iterator[Request], times: list[float]) -> None:
    for request in requests:
        began = time.perf_counter()
        await _ask(session, request)
        times.append(time.perf_counter() - began)


async def _ask(session: aiohttp.ClientSession, request: Request) -> None:
    method, path, token, body = request
    headers = {"Authorization": f"Bearer {token}"}
    async with session.request(method, path, json=body, headers=headers) as answer:
        text = await answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path} answered {answer.status}: {text[:300]!r}")


if __name__ == "__main__":
    print(json.dumps(asyncio.run(play(json.load(sys.stdin)))))
