"""The one connection to Redis per process, and the messages that travel over it.

Redis holds nothing that cannot be lost: the database is the truth, and everything here is a nudge or a cache.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping

import redis
import redis.asyncio
import structlog
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

log = structlog.get_logger(__name__)

EVENTS = "slipway:events"
REVOCATIONS = "slipway:revocations"
ACTIVITY = "slipway:activity"


@functools.cache
def client() -> redis.Redis:
    """The process's shared, thread-safe client; its calls raise `redis.RedisError` within two seconds.

    It does not retry by itself: what is sent here is a nudge, and whoever needs more asks again.
    """
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0)
    )


def answers(url: str) -> bool:
    """Whether a server answers there, asked once, on a connection of its own, within a second."""
    asked = redis.Redis.from_url(url, socket_connect_timeout=0.5, socket_timeout=0.5, retry=Retry(NoBackoff(), 0))
    try:
        return bool(asked.ping())
    except redis.RedisError:
        return False
    finally:
        asked.close()


def async_client() -> redis.asyncio.Redis:
    """A client for the running event loop; the caller closes it."""
    return redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=2)


def publish(channel: str, message: Mapping[str, str | int]) -> bool:
    """Tell whoever listens. Says False when Redis is away: listeners must also look for themselves now and then."""
    try:
        client().publish(channel, json.dumps(message))
    except redis.RedisError as error:
        log.warning("publish_failed", channel=channel, error=type(error).__name__)
        return False
    return True
