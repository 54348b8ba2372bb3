"""Listens for revocations on Redis, and says when it cannot."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

log = structlog.get_logger()

CHANNEL = "slipway:revocations"
SCOPES = ("session", "user", "workspace")
_SILENCE_SECONDS = 1.0
_LONGEST_PAUSE = 2.0


class Revocations:
    """A subscriber that comes back by itself.

    Args:
        redis: client that does not retry by itself, because a silent reconnection would hide missed messages.
        on_revoke: called with scope and value.
        on_change: called with `away=` when the connection goes or comes.
    """

    def __init__(self, redis: Redis, on_revoke: Callable[[str, str], None], on_change: Callable[..., None]) -> None:
        self._redis = redis
        self._on_revoke = on_revoke
        self._on_change = on_change
        self.away = True

    async def run(self) -> None:
        """Listen, for ever."""
        pause = 0.05
        while True:
            try:
                async with self._redis.pubsub() as channel:
                    async with asyncio.timeout(_LONGEST_PAUSE):
                        await channel.subscribe(CHANNEL)
                    self._change(away=False)
                    pause = 0.05
                    await self._listen(channel)
            except (RedisError, OSError) as error:
                log.debug("redis_failed", error=str(error))
                self._change(away=True)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # Spreads load, guards nothing.
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _change(self, *, away: bool) -> None:
        if away != self.away:
            self.away = away
            self._on_change(away=away)

    async def _listen(self, channel: PubSub) -> None:
        """Hand messages on; a connection that is silent is probed, so that one that hangs is found out."""
        probed = False
        while True:
            message = await channel.get_message(timeout=_SILENCE_SECONDS)
            if message is not None:
                probed = False
                if message["type"] == "message":
                    self._hand_on(message["data"])
                continue
            if probed:
                raise TimeoutError("Redis does not answer")
            async with asyncio.timeout(_SILENCE_SECONDS):
                await channel.ping()
            probed = True

    def _hand_on(self, data: Any) -> None:
        try:
            document = json.loads(data)
        except ValueError:
            document = None
        if not isinstance(document, dict) or not document.keys() & set(SCOPES):
            log.warning("revocation_malformed")
            return
        for scope in SCOPES:
            if scope in document:
                self._on_revoke(scope, str(document[scope]))
