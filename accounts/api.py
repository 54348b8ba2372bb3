"""The API of accounts."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import signed_in


class MeView(APIView):
    """Who the caller is."""

    def get(self, request: Request) -> Response:
        """The signed-in user."""
        user = signed_in(request)
        return Response({"id": user.pk, "username": user.username, "name": user.shown_name, "email": user.email})
