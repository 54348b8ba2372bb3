"""What lies in the broker's queue, as a worker would find it."""

from __future__ import annotations

import base64
import json

from kernel import redis


def asked(task: str = "workspaces.reconcile", queue: str = "control") -> list[str]:
    """The first argument of each message for a task, those that came first in front."""
    found = []
    for raw in reversed(redis.client().lrange(queue, 0, -1)):
        message = json.loads(raw)
        if message["headers"]["task"] == task:
            found.append(str(json.loads(base64.b64decode(message["body"]))[0][0]))
    return found


def empty(queue: str = "control") -> None:
    """Take everything out."""
    redis.client().delete(queue)
