"""The only door to the job queue.

Jobs carry ids only, leave after the transaction commits, and are nudges: each task reads the database again, and a
periodic sweep does what a lost job would have done. So a broker that is away costs time, never work.

One nudge that still waits stands for all that would follow it: it is noted in the broker's own memory, so that note and
message are lost together, until a worker begins with it. What changes after that asks anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import structlog
from celery import Task, current_app
from celery.signals import task_prerun
from django.db import transaction
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from kernel import observe, redis

log = structlog.get_logger(__name__)


# Of 0 to 9, 0 first.
_URGENT, USUAL = 0, 5


# A message that was lost with a worker keeps others from being sent for so many seconds.
_STANDS = 60


def enqueue(task: str, *args: str | int, countdown: float = 0, urgent: bool = False) -> None:
    """Ask for `task` (a registered name) to run with `args`, in `countdown` seconds, once the transaction commits.

    What is urgent is done before all that waits already: for what is quickly done, and somebody sits in front of.
    """
    transaction.on_commit(partial(_send, task, args, countdown, urgent))


def enqueue_each(task: str, ids: Sequence[str]) -> None:
    """Ask for `task` to run once for each id that it does not wait for already, once the transaction commits.

    A broker that does not take one is not asked to take the others: the sweep does them.
    """
    transaction.on_commit(partial(_send_each, task, ids))


@task_prerun.connect
def _begin(task: Task[Any, Any], args: Sequence[Any], **_: object) -> None:
    """Before a task reads anything: what is asked for from now on is not in its message any more."""
    if not args:
        return
    given = (task.request.delivery_info or {}).get("priority")
    _forget([_note(task.name, args[0], USUAL if given is None else given)])


def _forget(notes: Sequence[str]) -> None:
    """As well as one can: they go by themselves."""
    try:
        if notes:
            redis.client().delete(*notes)
    except RedisError as error:
        log.warning("notes_kept", count=len(notes), error=type(error).__name__)


def _note(task: str, one: str | int, priority: int) -> str:
    return f"slipway:asked:{task}:{priority}:{one}"


def _send_each(task: str, ids: Sequence[str]) -> None:
    if not ids:
        return
    left: list[str] = []
    try:
        pipeline = redis.client().pipeline(transaction=False)
        for one in ids:
            pipeline.set(_note(task, one, USUAL), 1, nx=True, ex=_STANDS)
        left = [one for one, noted in zip(ids, pipeline.execute(), strict=True) if noted]
        with current_app.producer_or_acquire() as producer:
            left.reverse()
            while left:
                current_app.tasks[task].apply_async(args=(left[-1],), producer=producer)
                left.pop()
    except (OperationalError, RedisError, ConnectionError, TimeoutError) as error:
        observe.ENQUEUE_FAILURES.inc()
        log.warning("enqueue_failed", task=task, most=len(ids), error=type(error).__name__)
        _forget([_note(task, one, USUAL) for one in left])


def _send(task: str, args: tuple[str | int, ...], countdown: float, urgent: bool) -> None:  # noqa: FBT001 - Ours alone.
    priority = _URGENT if urgent else USUAL
    # One that comes later stands for nothing that is asked for now.
    notes = [_note(task, args[0], priority)] if args and not countdown else []
    try:
        # Celery's own connections try again for six seconds, which no request has; this one gives up at once.
        if not notes:
            redis.client().ping()
        elif not redis.client().set(notes[0], 1, nx=True, ex=_STANDS):
            return
        current_app.tasks[task].apply_async(args=args, countdown=countdown, priority=priority)
    except (OperationalError, RedisError, ConnectionError, TimeoutError) as error:
        # Deliberately not raised: the row is committed and the sweep will find it.
        observe.ENQUEUE_FAILURES.inc()
        log.warning("enqueue_failed", task=task, args=args, error=type(error).__name__)
        _forget(notes)
