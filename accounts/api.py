"""The API of accounts."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import signed_in
from kernel.shapes import PROBLEMS


class Me(serializers.Serializer[Any]):
    """The caller."""

    id = serializers.IntegerField()
    username = serializers.CharField()
    name = serializers.CharField()
    email = serializers.CharField(allow_blank=True)


class MeView(APIView):
    """Who the caller is."""

    @extend_schema(operation_id="me", responses={200: Me, **PROBLEMS})
    def get(self, request: Request) -> Response:
        """The signed-in user."""
        user = signed_in(request)
        return Response({"id": user.pk, "username": user.username, "name": user.shown_name, "email": user.email})
