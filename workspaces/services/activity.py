"""From Redis, where gateways and agents leave signs of activity, to the database: one statement per tick."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import cast

import redis as redis_library
import structlog
from django.db.models import Case, DateTimeField, Q, Value, When

from kernel import redis
from workspaces.models import Workspace

log = structlog.get_logger(__name__)
BATCH = 500
CURSOR = "slipway:activity:flushed"
# Signs may arrive a little later than the moment they speak of.
OVERLAP_SECONDS = 60
KEEP_SECONDS = 24 * 3600


def flush(*, now: datetime) -> int:
    """Bring the activity since the last flush to the workspaces' rows; says how many were looked at.

    The cursor moves only after the rows are written and a row never goes back in time, so a flush that runs twice, or
    dies half-way, loses nothing.
    """
    try:
        client = redis.client()
        since = min(float(client.get(CURSOR) or 0), now.timestamp()) - OVERLAP_SECONDS
        seen = cast("list[tuple[bytes, float]]", client.zrangebyscore(redis.ACTIVITY, since, "+inf", withscores=True))
        for start in range(0, len(seen), BATCH):
            _write(_by_id(seen[start : start + BATCH]))
        client.set(CURSOR, now.timestamp())
        client.zremrangebyscore(redis.ACTIVITY, "-inf", now.timestamp() - KEEP_SECONDS)
    except redis_library.RedisError as error:
        log.warning("activity_flush_failed", error=type(error).__name__)
        return 0
    return len(seen)


def _by_id(seen: list[tuple[bytes, float]]) -> dict[uuid.UUID, float]:
    """By workspace. A member that is no id is left out: it must not keep everybody else's from being written."""
    found: dict[uuid.UUID, float] = {}
    for key, score in seen:
        try:
            found[uuid.UUID(key.decode())] = score
        except ValueError:
            log.warning("activity_strange", member=repr(key[:60]))
    return found


def _write(seen: dict[uuid.UUID, float]) -> None:
    cases = [When(pk=pk, then=Value(datetime.fromtimestamp(at, UTC))) for pk, at in seen.items()]
    newest = Case(*cases, output_field=DateTimeField())
    Workspace.objects.filter(Q(last_activity_at=None) | Q(last_activity_at__lt=newest), pk__in=seen).update(
        last_activity_at=newest
    )
