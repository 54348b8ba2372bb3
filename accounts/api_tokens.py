"""Tokens, by the API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import selectors
from accounts.authentication import signed_in
from accounts.models import ApiToken, Scope
from accounts.services import tokens
from kernel.errors import Forbidden
from kernel.shapes import PROBLEMS, validated


class Token(serializers.ModelSerializer[ApiToken]):
    """A token, without its secret."""

    scopes = serializers.ListField(child=serializers.ChoiceField(Scope.choices))

    class Meta:
        model = ApiToken
        fields: tuple[str, ...] = (
            "id", "name", "scopes", "created_at", "expires_at", "last_used_at", "last_used_from", "revoked_at",
        )  # fmt: skip


class NewToken(Token):
    """A token that was just made; `secret` is shown this once."""

    secret = serializers.CharField(default="")

    class Meta(Token.Meta):
        fields = (*Token.Meta.fields, "secret")


class TokenList(serializers.Serializer[Any]):
    """The caller's tokens, the newest first."""

    tokens = Token(many=True)


class CreateToken(serializers.Serializer[Any]):
    """The body of `POST /tokens`."""

    name = serializers.CharField(max_length=100)
    scopes = serializers.ListField(child=serializers.ChoiceField(Scope.choices), min_length=1, max_length=10)
    days = serializers.IntegerField(min_value=1, max_value=366, default=90)


class TokensView(APIView):
    """All of the caller's tokens."""

    writes_with = Scope.ADMIN

    @extend_schema(operation_id="tokens_list", responses={200: TokenList, **PROBLEMS})
    def get(self, request: Request) -> Response:
        """Tokens with their last use; those that have ended too, for a month."""
        return Response({"tokens": Token(selectors.tokens_of(signed_in(request)), many=True).data})

    @extend_schema(operation_id="tokens_create", request=CreateToken, responses={201: NewToken, **PROBLEMS})
    def post(self, request: Request) -> Response:
        """Make a token. One that is made with a token can do no more than that one."""
        wanted = validated(CreateToken, request)
        if isinstance(request.auth, ApiToken) and not set(wanted["scopes"]) <= set(request.auth.scopes):
            raise Forbidden(
                "scopes_wider", "A token cannot make one that can do more.", "Make it in the portal, or ask for less."
            )
        token, secret = tokens.create_token(
            user=signed_in(request),
            name=wanted["name"],
            scopes=wanted["scopes"],
            life=timedelta(days=wanted["days"]),
            now=timezone.now(),
        )
        return Response({**Token(token).data, "secret": secret}, status=status.HTTP_201_CREATED)


class TokenView(APIView):
    """One token."""

    writes_with = Scope.ADMIN

    @extend_schema(operation_id="tokens_revoke", responses={204: None, **PROBLEMS})
    def delete(self, request: Request, token_id: int) -> Response:
        """End it at once, with all that is open by it."""
        user = signed_in(request)
        tokens.revoke_token(selectors.token_of(user, token_id), actor=user, now=timezone.now())
        return Response(status=status.HTTP_204_NO_CONTENT)
