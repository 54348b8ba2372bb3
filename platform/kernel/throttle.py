"""How often one person may ask for something that costs others: the REST framework's throttle, counted in Redis."""

from __future__ import annotations

from typing import Any

import redis
import structlog
from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.throttling import UserRateThrottle

from kernel.errors import TooMany

log = structlog.get_logger(__name__)


class PersonThrottle(UserRateThrottle):
    """Lets everything through while Redis is away: it holds nothing that anybody should have to wait for."""

    def allow_request(self, request: Request, view: Any) -> bool:
        """Count the request; False when there were too many."""
        try:
            return super().allow_request(request, view)
        except redis.RedisError as error:
            log.warning("throttle_unavailable", scope=self.scope, error=type(error).__name__)
            return True


class LookupThrottle(PersonThrottle):
    """For what asks the host of a repository that somebody names, which may be slow on purpose."""

    scope = "lookups"


class SuggestionThrottle(PersonThrottle):
    """For what asks while somebody types."""

    scope = "suggestions"


def count_lookup(request: HttpRequest) -> None:
    """Count a lookup in a view outside of the REST framework.

    Raises:
        TooMany: `throttled`.
    """
    throttle = LookupThrottle()
    if not throttle.allow_request(request, None):  # type: ignore[arg-type]  # Only its user is looked at.
        raise TooMany(
            "throttled",
            "You have looked up many repositories within a minute.",
            "Wait a little, then try again.",
            retry_after=throttle.wait(),
        )
