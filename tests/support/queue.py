"""What lies in the broker's queue, as a worker would find it."""

from __future__ import annotations

import base64
import json

from kombu.transport.redis import Channel

from kernel import redis


def lists(queue: str) -> list[str]:
    """The broker keeps a list for each step of priority; a worker empties them in this order."""
    steps, separator = Channel.priority_steps, Channel.sep
    return [queue if step == 0 else f"{queue}{separator}{step}" for step in steps]


def asked(task: str = "workspaces.reconcile", queue: str = "control") -> list[str]:
    """The first argument of each message for a task, in the order in which a worker takes them."""
    found = []
    for key in lists(queue):
        for raw in reversed(redis.client().lrange(key, 0, -1)):
            message = json.loads(raw)
            if message["headers"]["task"] == task:
                found.append(str(json.loads(base64.b64decode(message["body"]))[0][0]))
    return found


def empty(queue: str = "control") -> None:
    """Take everything out, as if a worker had begun with all of it."""
    redis.client().delete(*lists(queue), *redis.client().scan_iter("slipway:asked:*"))
