"""Tells the platform that somebody really uses a workspace, so that idle ones can be stopped and no other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway import metrics

log = structlog.get_logger()

KEY = "slipway:activity"
_EVERY_SECONDS = 15.0
_WINDOW_SECONDS = 30.0
_WINDOW_BYTES = 2048
_FLUSH_SECONDS = 1.0
_MOST_PENDING = 10_000


class Activity:
    """Collects use and writes it to a sorted set, workspace by time of last use in Unix seconds.

    Args:
        redis: where to write; None to write nowhere.
    """

    def __init__(self, redis: Redis | None) -> None:
        self._redis = redis
        self._loop = asyncio.get_running_loop()
        self._last: dict[str, float] = {}
        self._pending: dict[str, float] = {}

    def touch(self, workspace: str) -> None:
        """Somebody uses the workspace; cheap enough for every request."""
        now = self._loop.time()
        if now - self._last.get(workspace, -_EVERY_SECONDS) < _EVERY_SECONDS:
            return
        if len(self._pending) < _MOST_PENDING:
            self._last[workspace] = now
            self._pending[workspace] = time.time()

    def typing(self, workspace: str) -> Callable[[int], None]:
        """A counter for one WebSocket: an untouched editor sends about 300 bytes in 30 s, a person far more."""
        start = self._loop.time()
        seen = 0

        def count(size: int) -> None:
            nonlocal start, seen
            seen += size
            if seen <= _WINDOW_BYTES:
                return
            now = self._loop.time()
            if now - start <= _WINDOW_SECONDS:
                self.touch(workspace)
            start, seen = now, 0

        return count

    async def run(self) -> None:
        """Write what was collected, for ever. A failure costs nothing but the information."""
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write what was collected now."""
        batch, self._pending = self._pending, {}
        old = self._loop.time() - _EVERY_SECONDS
        for workspace in [name for name, at in self._last.items() if at < old]:
            del self._last[workspace]
        if not batch or self._redis is None:
            return
        try:
            async with asyncio.timeout(_FLUSH_SECONDS):
                await self._redis.zadd(KEY, dict(batch))
        except (RedisError, OSError) as error:
            metrics.activity_failures.inc()
            log.debug("activity_not_written", error=str(error))
            self._pending = {**batch, **self._pending}
