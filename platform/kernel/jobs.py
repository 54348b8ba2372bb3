"""The only door to the job queue.

Jobs carry ids only, leave after the transaction commits, and are nudges: each task reads the database again, and a
periodic sweep does what a lost job would have done. So a broker that is away costs time, never work.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import structlog
from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from kernel import observe, redis

log = structlog.get_logger(__name__)


# Of 0 to 9, 0 first.
_URGENT, USUAL = 0, 5


def enqueue(task: str, *args: str | int, countdown: float = 0, urgent: bool = False) -> None:
    """Ask for `task` (a registered name) to run with `args`, in `countdown` seconds, once the transaction commits.

    What is urgent is done before all that waits already: for what is quickly done, and somebody sits in front of.
    """
    transaction.on_commit(partial(_send, task, args, countdown, urgent))


def enqueue_each(task: str, ids: Sequence[str]) -> None:
    """Ask for `task` to run once for each id, once the transaction commits.

    A broker that does not take one is not asked to take the others: the sweep does them.
    """
    transaction.on_commit(partial(_send_each, task, ids))


def _send_each(task: str, ids: Sequence[str]) -> None:
    if not ids:
        return
    try:
        redis.client().ping()
        with current_app.producer_or_acquire() as producer:
            for one in ids:
                current_app.tasks[task].apply_async(args=(one,), producer=producer)
    except (OperationalError, RedisError, ConnectionError, TimeoutError) as error:
        observe.ENQUEUE_FAILURES.inc()
        log.warning("enqueue_failed", task=task, most=len(ids), error=type(error).__name__)


def _send(task: str, args: tuple[str | int, ...], countdown: float, urgent: bool) -> None:  # noqa: FBT001 - Ours alone.
    try:
        # Celery's own connections try again for six seconds, which no request has; this one gives up at once.
        redis.client().ping()
        priority = _URGENT if urgent else USUAL
        current_app.tasks[task].apply_async(args=args, countdown=countdown, priority=priority)
    except (OperationalError, RedisError, ConnectionError, TimeoutError) as error:
        # Deliberately not raised: the row is committed and the sweep will find it.
        observe.ENQUEUE_FAILURES.inc()
        log.warning("enqueue_failed", task=task, args=args, error=type(error).__name__)
