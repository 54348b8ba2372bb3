"""What stands around the gateway in its tests: a web that speaks the internal contract, and a workspace."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.web import Application
from multidict import CIMultiDictProxy
from yarl import URL

from gateway.config import Config
from gateway.service import Gateway

SECRET = "the-internal-secret"
OWNER = "cookie-of-owner"
TOKEN = "slp_token-of-owner"
MEGA = 1 << 20


@dataclasses.dataclass
class StubWeb:
    """Web's side of the contract, with the answers that a test sets.

    Args:
        folder: the workspace's folder of sockets.
        upstream: where the workspace is, if not in that folder.
    """

    folder: Path
    upstream: dict[str, Any] | None = None
    sessions: dict[str, str] = dataclasses.field(default_factory=lambda: {OWNER: "session-1", TOKEN: "session-t"})
    state: str = "running"
    ttl: float = 10.0
    codes: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    questions: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    reports: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    paths: list[str] = dataclasses.field(default_factory=list)
    report_status: int = 200
    hold: asyncio.Event | None = None

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * MEGA)
        app.router.add_post("/internal/authorize", self.authorize)
        app.router.add_post("/internal/redeem", self.redeem)
        app.router.add_route("*", "/{rest:.*}", self.portal)
        return app

    async def authorize(self, request: web.Request) -> web.Response:
        assert request.headers["X-Slipway-Internal"] == SECRET
        question = await request.json()
        self.questions.append(question)
        if self.hold is not None:
            await self.hold.wait()
        return web.json_response(self.decide(question))

    def decide(self, question: dict[str, Any]) -> dict[str, Any]:
        session = self.sessions.get(question["cookie"] or question["bearer"] or "")
        decision = "allow" if self.state == "running" else "not_running"
        if session is None:
            decision = "sign_in"
        elif question["slug"] != "demo":
            decision = "not_found"
        return {
            "decision": decision,
            "workspace": "0f0f-demo",
            "slug": question["slug"],
            "user": "12",
            "session": session,
            "state": self.state,
            "reason": "",
            "upstream": self.upstream or {"ide": f"unix:{self.folder}/ide.sock", "ports": f"unix:{self.folder}/ports"},
            "ttl": self.ttl,
            "start_page": "http://localhost:8000/workspaces/demo/start",
        }

    def mint(self, code: str, *, label: str, state: str) -> None:
        """What the portal does for somebody who is signed in."""
        self.codes[code] = (label, state)

    async def redeem(self, request: web.Request) -> web.Response:
        assert request.headers["X-Slipway-Internal"] == SECRET
        asked = await request.json()
        bound = self.codes.pop(asked["code"], None)
        if bound != (asked["label"], hashlib.sha256(asked["nonce"].encode()).hexdigest()):
            return web.json_response({"status": 400, "code": "bad_code"}, status=400)
        return web.json_response({"cookie": OWNER, "max_age": 86400})

    async def portal(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path)
        if request.path == "/sse":
            return await sse(request)
        body = await request.read()
        if request.path.startswith("/internal/agent/"):
            self.reports.append({"path": request.path, "headers": dict(request.headers), "body": body.decode()})
            if self.hold is not None:
                await self.hold.wait()
            if self.report_status != 200:
                problem = {"status": self.report_status, "code": "from_web"}
                return web.json_response(
                    problem, status=self.report_status, content_type="application/problem+json",
                    headers={"Retry-After": "7"},
                )  # fmt: skip
        return web.json_response(
            {"who": "web", "path": request.path_qs, "headers": dict(request.headers), "length": len(body)},
            headers=[("Set-Cookie", "sessionid=s; Path=/")],
        )


async def sse(request: web.Request) -> web.StreamResponse:
    """One event for each byte that comes in a second request's place: sends, then waits to be told."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    queue: asyncio.Queue[bytes] = request.app[EVENTS]
    while event := await queue.get():
        await response.write(event)
    return response


EVENTS: web.AppKey[asyncio.Queue[bytes]] = web.AppKey("events")


class Workspace:
    """A program in a workspace, listening on the IDE's socket and on that of a port."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.open_sockets = 0
        self.cancelled = 0
        self.close_code: int | None = None
        self.received = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=0)
        app[EVENTS] = asyncio.Queue()
        app.router.add_get("/ws", self.socket)
        app.router.add_get("/sse", self.events)
        app.router.add_get("/big", self.big)
        app.router.add_get("/cookies", self.cookies)
        app.router.add_post("/early", self.early)
        app.router.add_post("/talk", self.talk)
        app.router.add_route("*", "/{rest:.*}", self.echo)
        return app

    async def echo(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if request.path == "/status":
            return web.Response(status=int(request.query["code"]))
        digest = hashlib.sha256()
        length = 0
        async for chunk in request.content.iter_any():
            digest.update(chunk)
            length += len(chunk)
            self.received += len(chunk)
        return web.json_response(
            {
                "who": "workspace",
                "method": request.method,
                "path": request.raw_path,
                "headers": {name: ", ".join(request.headers.getall(name)) for name in request.headers},
                "length": length,
                "digest": digest.hexdigest(),
            }
        )

    async def early(self, request: web.Request) -> web.Response:
        return web.Response(status=413, text="too much")

    async def talk(self, request: web.Request) -> web.StreamResponse:
        """Answers each piece of the body as it comes."""
        response = web.StreamResponse()
        await response.prepare(request)
        async for chunk in request.content.iter_any():
            await response.write(chunk.upper())
        return response

    async def events(self, request: web.Request) -> web.StreamResponse:
        try:
            return await sse(request)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def big(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(int(request.query["mega"])):
            await response.write(b"x" * MEGA)
            self.received += MEGA
        return response

    async def cookies(self, request: web.Request) -> web.Response:
        return web.Response(headers=[("Set-Cookie", value) for value in request.query.getall("set")])

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        self.requests.append(request)
        socket = web.WebSocketResponse(max_msg_size=0, protocols=("two",), autoping=True)
        await socket.prepare(request)
        self.open_sockets += 1
        try:
            async for message in socket:
                await self.answer(socket, message)
            self.close_code = socket.close_code
        finally:
            self.open_sockets -= 1
        return socket

    async def answer(self, socket: web.WebSocketResponse, message: aiohttp.WSMessage) -> None:
        if message.type is aiohttp.WSMsgType.BINARY:
            await socket.send_bytes(message.data)
        elif message.data == "flood":
            for _ in range(64):
                await socket.send_bytes(b"y" * MEGA)
                self.received += MEGA
        elif message.data == "bye":
            await socket.close(code=4321, message=b"see you")
        else:
            await socket.send_str(message.data)


@contextlib.asynccontextmanager
async def served(app: web.Application, socket: Path) -> AsyncIterator[web.AppRunner]:
    """Serve an application on a Unix socket."""
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(socket)).start()
    try:
        yield runner
    finally:
        await runner.cleanup()


@dataclasses.dataclass
class Stage:
    """Everything, running."""

    gateway: Gateway
    web: StubWeb
    web_app: Application
    workspace: Workspace
    workspace_app: Application
    session: aiohttp.ClientSession
    folder: Path
    stack: contextlib.AsyncExitStack

    @property
    def port(self) -> int:
        return int(self.gateway.public.address.rpartition(":")[2])

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def headers(self, host: str = "demo.localhost", **more: str) -> dict[str, str]:
        """Headers of the owner's browser; names are given with underscores, an empty value leaves one out."""
        given = {"Host": f"{host}:{self.port}", "Cookie": f"slipway_workspace={OWNER}"}
        given |= {name.replace("_", "-"): value for name, value in more.items()}
        return {name: value for name, value in given.items() if value}

    def page(self, host: str = "demo.localhost", **more: str) -> dict[str, str]:
        return self.headers(host, **{"Accept": "text/html,*/*", **more})

    async def ask(
        self, path: str = "/", *, method: str = "GET", headers: dict[str, str] | None = None, data: Any = None
    ) -> tuple[int, CIMultiDictProxy[str], Any]:
        """One request; the body is parsed where it is JSON."""
        headers = self.headers() if headers is None else headers
        async with self.session.request(
            method, URL(self.url(path), encoded=True), headers=headers, data=data, allow_redirects=False
        ) as r:
            body = await r.read()
            parsed = json.loads(body) if "json" in r.headers.get("Content-Type", "") and body else body
            return r.status, r.headers, parsed

    async def connect(self, *, origin: str | None = None, **more: Any) -> aiohttp.ClientWebSocketResponse:
        """The owner's WebSocket to the IDE."""
        headers = self.headers(Origin=origin or f"http://demo.localhost:{self.port}")
        socket: aiohttp.ClientWebSocketResponse
        socket = await self.session.ws_connect(self.url("/ws"), headers=headers, max_msg_size=0, **more)
        return socket

    def agent(self, way: str) -> aiohttp.ClientSession:
        """How an agent reports, by its `socket` or over the `network`; paths are relative to it."""
        if way == "socket":
            connector = aiohttp.UnixConnector(f"{self.folder}/platform.sock")
            return aiohttp.ClientSession("http://platform", connector=connector)
        return aiohttp.ClientSession(f"http://{self.gateway.remote_agents.address}")

    async def raw(self, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.stack.push_async_callback(hang_up, writer)
        writer.write(data)
        await writer.drain()
        return reader, writer


def still(look: Callable[[], int]) -> Callable[[], bool]:
    """A question for `eventually_async`: has a number, once above zero, stayed the same for twenty looks?"""
    seen: list[int] = []

    def ask() -> bool:
        seen.append(look())
        return seen[-1] > 0 and len(seen) >= 20 and len(set(seen[-20:])) == 1

    return ask


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a raw connection, whatever has become of it."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def settings(folder: Path, **more: Any) -> Config:
    """The settings of a test's gateway."""
    given: dict[str, Any] = {
        "port": 0,
        "web": f"unix:{folder}/web.sock",
        "secret": SECRET,
        "agents_socket": f"{folder}/platform.sock",
        "agents_listen": "127.0.0.1:0",
        "admin": f"unix:{folder}/admin.sock",
    }
    return Config(**(given | more))


@contextlib.asynccontextmanager
async def staged(folder: Path, **more: Any) -> AsyncIterator[Stage]:
    """Start everything; `more` are settings."""
    run = folder / "run"
    (run / "ports").mkdir(parents=True)
    stub, workspace = StubWeb(run), Workspace()
    web_app, workspace_app = stub.app(), workspace.app()
    web_app[EVENTS] = asyncio.Queue()
    port_app = workspace.app()
    async with contextlib.AsyncExitStack() as stack:
        # The gateway goes last, so that its own way of ending things is what the servers see.
        await stack.enter_async_context(served(web_app, folder / "web.sock"))
        await stack.enter_async_context(served(workspace_app, run / "ide.sock"))
        await stack.enter_async_context(served(port_app, run / "ports" / "3000.sock"))
        gateway = Gateway(settings(folder, **more))
        await gateway.open()
        stack.push_async_callback(gateway.close)
        # A gateway that never answers fails a test within its time, instead of hanging it.
        patience = aiohttp.ClientTimeout(total=30)
        session = await stack.enter_async_context(
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), timeout=patience)
        )
        yield Stage(gateway, stub, web_app, workspace, workspace_app, session, folder, stack)
