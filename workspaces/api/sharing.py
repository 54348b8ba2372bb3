"""Sharing a workspace, by the API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import selectors as accounts
from accounts.access import Ability, Level
from accounts.authentication import signed_in
from accounts.models import Scope
from kernel.errors import Invalid
from kernel.shapes import PROBLEMS, validated
from workspaces import selectors
from workspaces.services import sharing

_LEVELS = [level.value for level in Level]


class Share(serializers.Serializer[Any]):
    """Somebody, or a team, that may be in a workspace which is not theirs."""

    id = serializers.IntegerField()
    user = serializers.CharField(source="user.username", allow_null=True, default=None)
    team = serializers.CharField(source="team.slug", allow_null=True, default=None)
    level = serializers.ChoiceField(_LEVELS)
    emergency = serializers.BooleanField(help_text="A platform admin let themselves in, for the reason given.")
    reason = serializers.CharField(allow_blank=True)
    expires_at = serializers.DateTimeField(allow_null=True)


class ShareList(serializers.Serializer[Any]):
    """All shares of a workspace, the oldest first; those that have ended too, until they are taken back."""

    shares = Share(many=True)


class CreateShare(serializers.Serializer[Any]):
    """The body of `POST /workspaces/{id}/shares`: one of `user` and `team`."""

    user = serializers.CharField(max_length=254, required=False, help_text="A name or an address.")
    team = serializers.CharField(max_length=40, required=False, help_text="A team's slug.")
    level = serializers.ChoiceField(_LEVELS)
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)


class BreakGlass(serializers.Serializer[Any]):
    """The body of `POST /workspaces/{id}/break-glass`."""

    reason = serializers.CharField(max_length=1000, help_text="Its owner will read it.")
    minutes = serializers.IntegerField(min_value=1, max_value=480, default=60)


class SharesView(APIView):
    """Who else may be in a workspace."""

    @extend_schema(operation_id="shares_list", responses={200: ShareList, **PROBLEMS})
    def get(self, request: Request, workspace_id: UUID) -> Response:
        """All shares of a workspace."""
        workspace = selectors.workspace_of(request.user, workspace_id)
        return Response({"shares": Share(selectors.grants_of(workspace), many=True).data})

    @extend_schema(operation_id="shares_create", request=CreateShare, responses={201: Share, **PROBLEMS})
    def post(self, request: Request, workspace_id: UUID) -> Response:
        """Share it with a person or a team; sharing again changes the level and the end."""
        actor = signed_in(request)
        workspace = selectors.workspace_of(actor, workspace_id, ability=Ability.SHARE)
        wanted = validated(CreateShare, request)
        user, team = wanted.get("user"), wanted.get("team")
        if bool(user) == bool(team):
            raise Invalid("share_with_whom", "Name a user or a team, and not both.", "Send one of them.", field="user")
        grant = sharing.share(
            workspace,
            to=accounts.user_named(user) if user else accounts.team_of(actor, str(team)),
            level=Level(wanted["level"]),
            expires_at=wanted["expires_at"],
            actor=actor,
            now=timezone.now(),
        )
        return Response(Share(grant).data, status=status.HTTP_201_CREATED)


class ShareView(APIView):
    """One share."""

    @extend_schema(operation_id="shares_delete", responses={204: None, **PROBLEMS})
    def delete(self, request: Request, workspace_id: UUID, share_id: int) -> Response:
        """Take it back. Whoever is in through it is put out within seconds."""
        actor = signed_in(request)
        workspace = selectors.workspace_of(actor, workspace_id, ability=Ability.CHANGE)
        sharing.unshare(workspace, selectors.grant_of(workspace, share_id), actor=actor)
        return Response(status=status.HTTP_204_NO_CONTENT)


class BreakGlassView(APIView):
    """An emergency."""

    writes_with = Scope.ADMIN

    @extend_schema(operation_id="break_glass", request=BreakGlass, responses={201: Share, **PROBLEMS})
    def post(self, request: Request, workspace_id: UUID) -> Response:
        """Enter somebody's workspace as a platform admin, for a reason and for a time; its owner sees both."""
        actor = signed_in(request)
        workspace = selectors.workspace_of(actor, workspace_id)
        wanted = validated(BreakGlass, request)
        life = timedelta(minutes=wanted["minutes"])
        grant = sharing.break_glass(workspace, reason=wanted["reason"], life=life, actor=actor, now=timezone.now())
        return Response(Share(grant).data, status=status.HTTP_201_CREATED)
