"""The gateway as its own process, in front of a stub web and a workspace."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp

from tests.gateway.stage import EVENTS, OWNER, SECRET, StubWeb, Workspace, served
from tests.support.waiting import eventually_async

ROOT = Path(__file__).resolve().parents[2]


class Running:
    """A gateway process in front of a stub web and a workspace."""

    def __init__(self, process: Process, port: int, folder: Path, workspace: Workspace) -> None:
        self.process, self.port, self.folder, self.workspace = process, port, folder, workspace
        self.events: asyncio.Queue[bytes] = asyncio.Queue()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def headers(self) -> dict[str, str]:
        origin = f"demo.localhost:{self.port}"
        return {"Host": origin, "Origin": f"http://{origin}", "Cookie": f"slipway_workspace={OWNER}"}

    async def ready(self) -> int:
        connector = aiohttp.UnixConnector(f"{self.folder}/admin.sock")
        async with aiohttp.ClientSession(connector=connector) as session, session.get("http://admin/readyz") as answer:
            return answer.status

    async def unready(self) -> bool:
        return await self.ready() == 503


async def until(look: Callable[[], bool | Awaitable[bool]]) -> None:
    await eventually_async(look)


@contextlib.asynccontextmanager
async def running(folder: Path, *flags: str, limits: str = "true") -> AsyncIterator[Running]:
    """Start it; `limits` is a shell command that comes first."""
    run = folder / "run"
    (run / "ports").mkdir(parents=True)
    (folder / "secret").write_text(SECRET + "\n")
    workspace = Workspace()
    app = workspace.app()
    async with served(StubWeb(run).app(), folder / "web.sock"), served(app, run / "ide.sock"):
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", f'{limits} && exec "$@"', "sh",
            sys.executable, "-m", "gateway", "--port", "0", "--web", f"unix:{folder}/web.sock",
            "--secret-file", f"{folder}/secret", "--admin", f"unix:{folder}/admin.sock", *flags,
            cwd=ROOT, env={**os.environ, "SLIPWAY_GATEWAY_DOMAIN": "localhost"}, stdout=DEVNULL, stderr=PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        first = json.loads(await asyncio.wait_for(process.stderr.readline(), 30))
        assert first["event"] == "gateway_listening"
        here = Running(process, int(first["address"].rpartition(":")[2]), folder, workspace)
        here.events = app[EVENTS]
        try:
            yield here
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()
