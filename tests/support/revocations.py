"""What gateways hear when access ends."""

from __future__ import annotations

import json
from typing import Any

from kernel import redis
from tests.support.waiting import eventually


class Listener:
    """A gateway's subscription."""

    def __init__(self) -> None:
        self.pubsub: Any = redis.client().pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self.pubsub.subscribe(redis.REVOCATIONS)
        self.pubsub.get_message(timeout=2)

    def next(self) -> dict[str, str]:
        """The next revocation; it must come."""
        message = eventually(lambda: self.pubsub.get_message(timeout=0.05), what="a revocation")
        body: dict[str, str] = json.loads(message["data"])
        return body
