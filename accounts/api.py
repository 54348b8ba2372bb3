"""The API of accounts: who the caller is, teams, and who is in them."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access, selectors
from accounts.authentication import signed_in
from accounts.models import PlatformRole, Scope, Team, TeamRole, User
from accounts.services import teams
from kernel.errors import Forbidden
from kernel.shapes import PROBLEMS, validated


class Me(serializers.Serializer[Any]):
    """The caller."""

    id = serializers.IntegerField()
    username = serializers.CharField()
    name = serializers.CharField()
    email = serializers.CharField(allow_blank=True)
    role = serializers.ChoiceField(PlatformRole.choices)


class TeamShape(serializers.Serializer[Any]):
    """A team, and the caller's role in it: null for who sees it as an auditor or platform admin."""

    slug = serializers.CharField()
    name = serializers.CharField()
    people = serializers.IntegerField()
    mine = serializers.ChoiceField(TeamRole.choices, allow_null=True)


class TeamList(serializers.Serializer[Any]):
    """Teams by name."""

    teams = TeamShape(many=True)


class CreateTeam(serializers.Serializer[Any]):
    """The body of `POST /teams`."""

    slug = serializers.CharField(max_length=40, help_text="Small letters, digits and hyphens; it stays.")
    name = serializers.CharField(max_length=100, required=False, default="")


class ChangeTeam(serializers.Serializer[Any]):
    """The body of `PATCH /teams/{slug}`."""

    name = serializers.CharField(max_length=100)


class Role(serializers.Serializer[Any]):
    """The body of `PUT /teams/{slug}/members/{user}`."""

    role = serializers.ChoiceField(TeamRole.choices)


class Member(serializers.Serializer[Any]):
    """Somebody in a team."""

    username = serializers.CharField(source="user.username")
    name = serializers.CharField(source="user.shown_name")
    role = serializers.ChoiceField(TeamRole.choices)
    from_claims = serializers.BooleanField(help_text="Given by the identity provider at a sign-in.")


class MemberList(serializers.Serializer[Any]):
    """Who is in a team, by name."""

    members = Member(many=True)


def _shown(user: User, slug: str) -> Response:
    return Response(TeamShape(selectors.team_of(user, slug)).data)


class MeView(APIView):
    """Who the caller is."""

    @extend_schema(operation_id="me", responses={200: Me, **PROBLEMS})
    def get(self, request: Request) -> Response:
        """The signed-in user."""
        user = signed_in(request)
        return Response(
            {
                "id": user.pk,
                "username": user.username,
                "name": user.shown_name,
                "email": user.email,
                "role": user.platform_role,
            }
        )


class TeamsView(APIView):
    """All of the caller's teams."""

    writes_with = Scope.ADMIN

    @extend_schema(operation_id="teams_list", responses={200: TeamList, **PROBLEMS})
    def get(self, request: Request) -> Response:
        """The teams that the caller may see."""
        return Response({"teams": TeamShape(selectors.teams_of(signed_in(request)), many=True).data})

    @extend_schema(operation_id="teams_create", request=CreateTeam, responses={201: TeamShape, **PROBLEMS})
    def post(self, request: Request) -> Response:
        """Make a team, for platform admins; whoever makes it is its owner."""
        actor = signed_in(request)
        if actor.platform_role is not PlatformRole.ADMIN:
            raise Forbidden("admin_needed", "Only platform admins make teams.", "Ask one of them.")
        wanted = validated(CreateTeam, request)
        team = teams.create_team(slug=wanted["slug"], name=wanted["name"], actor=actor)
        answer = _shown(actor, team.slug)
        answer.status_code = status.HTTP_201_CREATED
        answer["Location"] = f"/api/v1/teams/{team.slug}"
        return answer


class TeamView(APIView):
    """One team."""

    writes_with = Scope.ADMIN

    @extend_schema(operation_id="teams_get", responses={200: TeamShape, **PROBLEMS})
    def get(self, request: Request, slug: str) -> Response:
        """A team."""
        return _shown(signed_in(request), slug)

    @extend_schema(operation_id="teams_change", request=ChangeTeam, responses={200: TeamShape, **PROBLEMS})
    def patch(self, request: Request, slug: str) -> Response:
        """Rename it, for its owners and admins."""
        actor = signed_in(request)
        team = _team_led_by(actor, slug, TeamRole.OWNER, TeamRole.ADMIN)
        teams.rename_team(team, name=validated(ChangeTeam, request)["name"], actor=actor)
        return _shown(actor, slug)

    @extend_schema(operation_id="teams_delete", responses={204: None, **PROBLEMS})
    def delete(self, request: Request, slug: str) -> Response:
        """Delete it, for its owners; refused while it has workspaces."""
        actor = signed_in(request)
        teams.delete_team(_team_led_by(actor, slug, TeamRole.OWNER), actor=actor)
        return Response(status=status.HTTP_204_NO_CONTENT)


def _team_led_by(user: User, slug: str, *roles: TeamRole) -> Team:
    team = selectors.team_of(user, slug)
    if access.role_in(user, team) not in roles:
        raise Forbidden("role_insufficient", "Your role in this team does not allow that.", "Ask one of its owners.")
    return team


class MembersView(APIView):
    """Who is in a team."""

    @extend_schema(operation_id="members_list", responses={200: MemberList, **PROBLEMS})
    def get(self, request: Request, slug: str) -> Response:
        """Everybody in the team, for everybody in it."""
        team = selectors.team_of(signed_in(request), slug)
        return Response({"members": Member(selectors.members_of(team), many=True).data})


class MemberView(APIView):
    """Somebody in a team."""

    writes_with = Scope.ADMIN

    @extend_schema(operation_id="members_set", request=Role, responses={200: MemberList, **PROBLEMS})
    def put(self, request: Request, slug: str, username: str) -> Response:
        """Take somebody in, or give them another role. A team keeps at least one owner."""
        team = self._change(request, slug, username, TeamRole(validated(Role, request)["role"]))
        return Response({"members": Member(selectors.members_of(team), many=True).data})

    @extend_schema(operation_id="members_remove", responses={204: None, **PROBLEMS})
    def delete(self, request: Request, slug: str, username: str) -> Response:
        """Take somebody out, or leave. What they have in the team stays theirs."""
        self._change(request, slug, username, None)
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _change(self, request: Request, slug: str, username: str, role: TeamRole | None) -> Team:
        actor = signed_in(request)
        team = selectors.team_of(actor, slug)
        teams.set_role(team, selectors.user_named(username), role, actor=actor)
        return team
