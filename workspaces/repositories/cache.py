"""A small cache of bytes that may always be lost."""

from __future__ import annotations

import time
from typing import Protocol

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

log = structlog.get_logger(__name__)


class Cache(Protocol):
    """Remembers bytes for a while. Never raises: what cannot be read is not there."""

    def get(self, key: str) -> bytes | None:
        """The value, or None where it is not or no longer there."""
        ...

    def set(self, key: str, value: bytes, ttl: float) -> None:
        """Remember the value for `ttl` seconds (at least a thousandth)."""
        ...


class NoCache:
    """Remembers nothing."""

    def get(self, key: str) -> bytes | None:
        """Nothing."""
        del key
        return None

    def set(self, key: str, value: bytes, ttl: float) -> None:
        """Forget it at once."""


class RedisCache:
    """A cache in Redis or Valkey that does without while the server is away.

    Args:
        client: with short socket time-outs, no retries (the library waits seconds between them) and
            `decode_responses` off, such as `from_url` makes.
        prefix: put before each key.
        pause: seconds to leave a server alone after it failed, so that an outage costs one time-out, not one per call.
    """

    def __init__(self, client: redis.Redis, *, prefix: str = "slipway:repositories:", pause: float = 5.0) -> None:
        self._client = client
        self._prefix = prefix
        self._pause = pause
        self._away_until = 0.0

    @classmethod
    def from_url(cls, url: str, *, timeout: float = 0.5, pause: float = 5.0) -> RedisCache:
        """With a client of its own: `redis://…`, `rediss://…` or `unix:///path`. `timeout` in seconds."""
        return cls(
            redis.Redis.from_url(
                url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0)
            ),
            pause=pause,
        )

    def close(self) -> None:
        """Close the client's connections."""
        self._client.close()

    def get(self, key: str) -> bytes | None:
        """See `Cache`."""
        if self._away():
            return None
        try:
            value = self._client.get(self._prefix + key)
        except redis.RedisError as error:
            self._failed(error)
            return None
        return value if isinstance(value, bytes) else None

    def set(self, key: str, value: bytes, ttl: float) -> None:
        """See `Cache`."""
        if self._away():
            return
        try:
            self._client.set(self._prefix + key, value, px=max(1, int(ttl * 1000)))
        except redis.RedisError as error:
            self._failed(error)

    def _away(self) -> bool:
        return time.monotonic() < self._away_until

    def _failed(self, error: redis.RedisError) -> None:
        self._away_until = time.monotonic() + self._pause
        log.warning("repository_cache_unavailable", error=type(error).__name__)
