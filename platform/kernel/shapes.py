"""What the API's views share: reading a body, and how the schema describes errors."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request


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


def validated(shape: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    """The body of a request, if it is of this shape.

    Raises:
        ValidationError: it is not; the problem names the field.
    """
    parsed = shape(data=request.data)
    parsed.is_valid(raise_exception=True)
    return dict(parsed.validated_data)
