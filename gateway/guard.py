"""Checks access of what is already open: WebSockets and long answers, at intervals and at once on a revocation."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from gateway import metrics
from gateway.access import Access, Authorizer, Key
from gateway.config import Config
from gateway.downstream import Downstream
from gateway.listener import Listener
from gateway.web import WebAway

log = structlog.get_logger()

POLICY_VIOLATION = 1008
TRY_AGAIN_LATER = 1013
_AT_ONCE = 32


class Guard:
    """Ends what is no longer allowed.

    Args:
        config: intervals.
        authorizer: decides.
        listener: whose connections are guarded.
    """

    def __init__(self, config: Config, authorizer: Authorizer, listener: Listener) -> None:
        self._config = config
        self._authorizer = authorizer
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._limit = asyncio.Semaphore(_AT_ONCE)
        self._wake = asyncio.Event()
        self._checks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Check at intervals, for ever."""
        while True:
            away = self._authorizer.redis_away()
            pause = self._config.recheck_away_seconds if away else self._config.recheck_seconds
            self._wake.clear()
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                await asyncio.gather(*[self._check(key, revoked=False) for key in self._keys()])

    def revoke(self, scope: str, value: str) -> None:
        """A revocation came: forget decisions, and check what is open and concerned."""
        metrics.revocations.labels(scope).inc()
        self._authorizer.revoke(scope, value)
        for key in self._keys(scope, value):
            self._start(self._check(key, revoked=scope != "all"))

    def redis_changed(self, *, away: bool) -> None:
        """Redis went or came: revocations may have been missed, so everything is checked now."""
        metrics.redis_up.set(not away)
        self._wake.set()
        if not away:
            log.info("redis_connected")
            self.revoke("all", "")
            return
        log.warning("redis_away")
        self._authorizer.expire()
        for key in self._keys():
            self._start(self._check(key, revoked=False))

    def _start(self, check: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(check)
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)

    def _open(self) -> list[tuple[Downstream, Access]]:
        return [(c, c.access) for c in self._listener.connections if c.access is not None]

    def _keys(self, scope: str = "all", value: str = "") -> set[Key]:
        return {access.key for _, access in self._open() if access.grant.concerns(scope, value)}

    async def _check(self, key: Key, *, revoked: bool) -> None:
        async with self._limit:
            try:
                access = await self._authorizer.get(key, wake=False, fresh=True)
            except WebAway:
                self._unknown(key, revoked=revoked)
                return
        allowed = access.grant.decision == "allow"
        for connection, held in self._open():
            if held.key != key:
                continue
            if allowed:
                connection.access = access
            else:
                metrics.closed.labels("revoked").inc()
                connection.cut(POLICY_VIOLATION, "access ended")

    def _unknown(self, key: Key, *, revoked: bool) -> None:
        """Web cannot be asked. After a revocation that is a no; otherwise the grace time runs."""
        now = self._loop.time()
        for connection, held in self._open():
            late = now > held.asked + held.grant.ttl + self._config.grace_seconds
            if held.key == key and (revoked or late):
                metrics.closed.labels("unverified").inc()
                connection.cut(TRY_AGAIN_LATER, "access could not be checked")
