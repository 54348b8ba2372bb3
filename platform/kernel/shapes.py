"""How the API's schema describes errors."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers


class Problem(serializers.Serializer[Any]):
    """An error, as problem+json (RFC 9457)."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField()
    detail = serializers.CharField()
    next_step = serializers.CharField(allow_blank=True)
    responsible = serializers.ChoiceField(["user", "cluster", "platform"])
    temporary = serializers.BooleanField()
    field = serializers.CharField(required=False)
    request_id = serializers.CharField(required=False)


# What any address may answer, whatever was sent; for `extend_schema(responses=…)`.
PROBLEMS: dict[Any, Any] = {
    (status, "application/problem+json"): Problem for status in (400, 401, 403, 404, 409, 413, 415, 422, 429, 503)
}
