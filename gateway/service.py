"""Puts the gateway together: listeners, helpers in the background, drain."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
from collections.abc import Callable

import structlog
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway import metrics
from gateway.access import Authorizer
from gateway.activity import Activity
from gateway.config import Config
from gateway.downstream import Downstream, Request
from gateway.forward import Forwarder
from gateway.guard import Guard
from gateway.listener import Listener
from gateway.pages import Reply, plain
from gateway.portal import Agents, Public
from gateway.revocations import Revocations
from gateway.signin import SignIn
from gateway.upstream import Pool
from gateway.web import Web
from gateway.workspace import Workspaces

log = structlog.get_logger()

GOING_AWAY = 1001
_SWEEP_SECONDS = 1.0
_POLL_SECONDS = 0.05
_CLOSE_SECONDS = 1.0
_REASON = "the gateway restarts"


class Gateway:
    """One gateway. Create it in a running loop; `open` it, and `drain` it at the end.

    Args:
        config: settings.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.pool = Pool(config.connect_seconds)
        web = Web(config, self.pool)
        self._redis = _redis(config.redis_url)
        self.authorizer = Authorizer(web, config)
        self.activity = Activity(self._redis)
        forwarder = Forwarder(config, self.pool)
        sign_in = SignIn(config, web)
        workspaces = Workspaces(config, self.authorizer, forwarder, sign_in, self.activity)
        self.public = Listener(config, Public(config, forwarder, workspaces))
        # Nobody stands between an agent and these listeners, so what an agent says about itself is never believed.
        agents = Agents(config, Forwarder(dataclasses.replace(config, trusted_proxies=()), self.pool))
        # Agents run among the users' programs, which can connect as well: they get a part, and each a share of it.
        most = config.max_agent_connections
        self.agents = Listener(config, agents, most=most, most_per_user=config.max_connections_per_user)
        self.remote_agents = Listener(config, agents, most=most)
        self._listeners = (self.public, self.agents, self.remote_agents)
        self.admin = Listener(config, self._admin)
        self.guard = Guard(config, self.authorizer, self.public)
        self._revocations: Revocations | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def draining(self) -> bool:
        """Whether new work is refused."""
        return self.public.draining

    async def open(self) -> None:
        """Listen, and start what runs in the background.

        Raises:
            OSError: an address cannot be used.
        """
        config = self.config
        await self.public.open(f"{config.host}:{config.port}")
        if config.agents_socket:
            # Agents run as other users; their tokens are checked by web.
            await self.agents.open(f"unix:{config.agents_socket}", mode=0o666)
        if config.agents_listen:
            await self.remote_agents.open(config.agents_listen)
        if config.admin:
            await self.admin.open(config.admin)
        runs = [self.guard.run(), self._sweep()]
        if self._redis is not None:
            self._revocations = Revocations(self._redis, self.guard.revoke, self.guard.redis_changed)
            self.authorizer.redis_away = self._redis_away
            runs += [self._revocations.run(), self.activity.run()]
        self._tasks = [asyncio.create_task(run) for run in runs]
        log.info(
            "gateway_listening",
            address=self.public.address,
            agents=self.remote_agents.address,
            domain=config.domain,
            most=config.max_connections,
        )

    def _redis_away(self) -> bool:
        return self._revocations is not None and self._revocations.away

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self.pool.sweep()
            metrics.connections.set(len(self.public.connections))

    async def _admin(self, client: Downstream, request: Request) -> None:
        client.reply(self._status(request.target.split("?", 1)[0]))

    def _status(self, path: str) -> Reply:
        if path == "/metrics":
            metrics.connections.set(len(self.public.connections))
            return Reply(200, (("Content-Type", CONTENT_TYPE_LATEST),), generate_latest(metrics.REGISTRY))
        if path == "/healthz":
            return plain(200)
        if path == "/readyz":
            return plain(503 if self.draining else 200)
        return plain(404)

    async def drain(self) -> None:
        """Stop in order: no new connections; requests in flight and WebSockets get their time, and are told to go."""
        log.info("gateway_draining", connections=len(self.public.connections))
        for listener in self._listeners:
            listener.stop_accepting()
        await asyncio.gather(self._end_requests(), self._end_sockets())
        for listener in self._listeners:
            metrics.closed.labels("drain").inc(len(listener.connections))
            listener.cut_all(GOING_AWAY, _REASON)
        await self._until(lambda: not self.public.connections, _CLOSE_SECONDS)
        await self.close()

    async def _end_requests(self) -> None:
        """Wait for requests in flight, and for those that are on their way on connections that are kept."""
        listeners = self._listeners
        deadline = self.public.loop.time() + self.config.drain_seconds
        await self._until(lambda: not any(one.idle for one in listeners), self.config.drain_idle_seconds)
        for listener in listeners:
            listener.close_idle()
        left = deadline - self.public.loop.time()
        await self._until(lambda: not any(one.requests_in_flight for one in listeners), left)

    async def _end_sockets(self) -> None:
        """Let WebSockets go on, and close them evenly over the second half of their time."""
        period = self.config.drain_socket_seconds
        many = len(self.public.sockets)
        began = self.public.loop.time()

        def over() -> bool:
            left = 1 - (self.public.loop.time() - began) / period
            kept = math.ceil(many * min(1.0, 2 * max(0.0, left)))
            for connection in self.public.sockets[kept:]:
                metrics.closed.labels("drain").inc()
                connection.cut(GOING_AWAY, _REASON)
            return not self.public.sockets

        if period:
            await self._until(over, period)

    async def _until(self, done: Callable[[], bool], seconds: float) -> None:
        deadline = self.public.loop.time() + seconds
        while not done() and self.public.loop.time() < deadline:
            await asyncio.sleep(_POLL_SECONDS)

    async def close(self) -> None:
        """End at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in (*self._listeners, self.admin):
            await listener.close()
        self.pool.close()
        if self._redis is not None:
            with contextlib.suppress(OSError):
                await self._redis.aclose()
        log.info("gateway_stopped")


def _redis(url: str) -> Redis | None:
    if not url:
        return None
    return Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=2)
