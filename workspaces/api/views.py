"""The workspace API. A view reads the request, makes one call into the domain, and writes the answer."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.access import Ability
from accounts.authentication import signed_in
from kernel.errors import Invalid, NotFound
from kernel.shapes import PROBLEMS, validated
from kernel.throttle import LookupThrottle, SuggestionThrottle
from workspaces import selectors
from workspaces.api import serializers as shapes
from workspaces.models import Workspace
from workspaces.selectors import ListScope
from workspaces.services import create, intents, repositories
from workspaces.services.runtimes import runtime
from workspaces.states import State

Word = TypeVar("Word", bound=StrEnum)
_KEY = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="Sent again with the same body, it gives the same workspace instead of a second one.",
)


class Page(CursorPagination):
    """Newest first; a cursor stays valid while rows come and go."""

    page_size = 50
    max_page_size = 200
    page_size_query_param = "limit"
    ordering = ("-created_at", "-id")

    def decode_cursor(self, request: Request) -> Cursor | None:
        """The place that the query names, if any.

        Raises:
            NotFound: it is no cursor of ours.
        """
        cursor: Cursor | None = super().decode_cursor(request)
        try:
            # The framework decodes a cursor, but does not look whether it holds a time.
            if cursor is not None and cursor.position is not None:
                selectors.moment(str(cursor.position))
        except ValueError as error:
            raise NotFound("cursor_invalid", "There is no such page.", "Begin again without `cursor`.") from error
        return cursor


def _detail(workspace: Workspace, code: int = status.HTTP_200_OK, headers: dict[str, str] | None = None) -> Response:
    context = {"conditions": selectors.conditions_of(workspace)}
    return Response(shapes.WorkspaceDetail(workspace, context=context).data, status=code, headers=headers)


def _choice(words: type[Word], text: str, field: str) -> Word:
    """The word of an enum that a query holds.

    Raises:
        Invalid: it is none of them.
    """
    try:
        return words(text)
    except ValueError as error:
        known = ", ".join(words)
        raise Invalid(
            f"{field}_unknown", f"There is no {field} {text[:20]!r}.", f"Choose from: {known}.", field=field
        ) from error


class WorkspaceList(APIView):
    """All of the caller's workspaces."""

    def get_throttles(self) -> list[Any]:
        """Creating asks the repository's host; listing asks nobody."""
        return [LookupThrottle()] if self.request.method == "POST" else []

    @extend_schema(
        operation_id="workspaces_list",
        parameters=[
            OpenApiParameter(
                "state", enum=[state.value for state in State], many=True, description="Only these states."
            ),
            OpenApiParameter(
                "scope",
                enum=[scope.value for scope in ListScope],
                description="The caller's own (the default), those shared with them, or all that they may see.",
            ),
            OpenApiParameter("limit", int, description="Entries per page, at most 200."),
            OpenApiParameter("cursor", str, description="From `next` or `previous`."),
        ],
        responses={200: shapes.WorkspacePage, **PROBLEMS},
    )
    def get(self, request: Request) -> Response:
        """List workspaces, newest first; without `state`, those in the trash are left out."""
        states = [_choice(State, text, "state") for text in request.query_params.getlist("state")]
        scope = _choice(ListScope, request.query_params.get("scope", ListScope.MINE), "scope")
        rows = selectors.listed_for(request.user, scope)
        rows = rows.filter(state__in=states) if states else selectors.without_trash(rows)
        page = Page()
        found = page.paginate_queryset(rows, request, view=self)
        return page.get_paginated_response(shapes.WorkspaceSerializer(found, many=True).data)

    @extend_schema(
        operation_id="workspaces_create",
        parameters=[_KEY],
        request=shapes.CreateWorkspace,
        responses={201: shapes.WorkspaceDetail, **PROBLEMS},
    )
    def post(self, request: Request) -> Response:
        """Create a workspace and start it; everything slow happens after the answer."""
        wanted = validated(shapes.CreateWorkspace, request)
        workspace, created = create.create(
            owner=signed_in(request),
            repo=wanted["repo"],
            branch=wanted.get("branch"),
            name=wanted["name"],
            idempotency_key=request.headers.get("Idempotency-Key"),
            now=timezone.now(),
        )
        headers = {"Location": f"/api/v1/workspaces/{workspace.pk}"}
        if not created:
            headers["Idempotent-Replay"] = "true"
        return _detail(workspace, status.HTTP_201_CREATED, headers)


class WorkspaceItem(APIView):
    """One workspace."""

    @extend_schema(operation_id="workspaces_get", responses={200: shapes.WorkspaceDetail, **PROBLEMS})
    def get(self, request: Request, workspace_id: UUID) -> Response:
        """A workspace with the steps of its latest start."""
        return _detail(selectors.workspace_of(request.user, workspace_id))

    @extend_schema(
        operation_id="workspaces_change",
        request=shapes.ChangeWorkspace,
        responses={200: shapes.WorkspaceDetail, **PROBLEMS},
    )
    def patch(self, request: Request, workspace_id: UUID) -> Response:
        """Rename it. Its slug and addresses stay."""
        workspace = selectors.workspace_of(request.user, workspace_id, ability=Ability.CHANGE)
        wanted = validated(shapes.ChangeWorkspace, request)
        return _detail(intents.rename(workspace, name=wanted["name"], actor=signed_in(request)))

    @extend_schema(operation_id="workspaces_delete", responses={202: shapes.WorkspaceDetail, **PROBLEMS})
    def delete(self, request: Request, workspace_id: UUID) -> Response:
        """Put it in the trash, stopping it first. It can be restored until `purge_at`."""
        workspace = selectors.workspace_of(request.user, workspace_id, ability=Ability.CHANGE)
        return _detail(
            intents.delete(workspace, actor=signed_in(request), now=timezone.now()), status.HTTP_202_ACCEPTED
        )


class _Verb(APIView):
    """Something to do with a workspace; the answer says what is wanted now, the events say when it is so."""

    intent: ClassVar[Callable[..., Workspace]]
    ability: ClassVar[Ability] = Ability.OPERATE

    @extend_schema(request=None, responses={202: shapes.WorkspaceDetail, **PROBLEMS})
    def post(self, request: Request, workspace_id: UUID) -> Response:
        """Accepted; asking again for what is so already changes nothing."""
        workspace = selectors.workspace_of(request.user, workspace_id, ability=self.ability)
        wanted = self.intent(workspace, actor=signed_in(request), now=timezone.now())
        return _detail(wanted, status.HTTP_202_ACCEPTED)


class StartWorkspace(_Verb):
    """Start it."""

    intent = staticmethod(intents.start)


class StopWorkspace(_Verb):
    """Stop it."""

    intent = staticmethod(intents.stop)


class RestartWorkspace(_Verb):
    """Give it a fresh run."""

    intent = staticmethod(intents.restart)


class RestoreWorkspace(_Verb):
    """Take it out of the trash, or call off its way there."""

    intent = staticmethod(intents.restore)
    ability = Ability.CHANGE


class WorkspaceLogs(APIView):
    """What the workspace's agent wrote."""

    @extend_schema(
        operation_id="workspaces_logs",
        parameters=[
            OpenApiParameter("run", int, description="Number of the run; the latest where empty."),
            OpenApiParameter("source", str, description="Only lines of this source, such as `postCreateCommand`."),
        ],
        responses={200: shapes.Log, **PROBLEMS},
    )
    def get(self, request: Request, workspace_id: UUID) -> Response:
        """The last MiB of a run's log, oldest line first."""
        workspace = selectors.workspace_of(request.user, workspace_id, ability=Ability.OPERATE)
        named = _whole_number(request.query_params.get("run"), "run")
        run = workspace.run if named is None else named
        lines = selectors.log_lines(runtime().logs(workspace.slug, run=run))
        source = request.query_params.get("source")
        chosen = [line for line in lines if source in {None, "", line["source"]}]
        return Response({"run": run, "lines": chosen})


def _whole_number(text: str | None, field: str) -> int | None:
    """A non-negative number below 2**31 from a query; None where it was not given."""
    if text is None or text == "":
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) >= 2**31:
        raise Invalid(
            "number_invalid", f"`{field}` must be a whole number.", "Correct it and send it again.", field=field
        )
    return int(text)


class RepositoryBranches(APIView):
    """Branches to pick from."""

    throttle_classes = (LookupThrottle,)

    @extend_schema(
        operation_id="repositories_branches",
        parameters=[
            OpenApiParameter("repo", str, required=True, description="As in `POST /workspaces`."),
            OpenApiParameter("query", str, description="Part of the branch's name."),
        ],
        responses={200: shapes.RepositoryLook, **PROBLEMS},
    )
    def get(self, request: Request) -> Response:
        """What is known of a repository, and up to 50 of its branches."""
        repo, query = request.query_params.get("repo", ""), request.query_params.get("query", "")
        return Response(repositories.look(repo, query=query[:400]))


class RepositorySuggestions(APIView):
    """Repositories to pick from."""

    throttle_classes = (SuggestionThrottle,)

    @extend_schema(
        operation_id="repositories_search",
        parameters=[OpenApiParameter("query", str, description="What was typed so far.")],
        responses={200: shapes.Suggestions, **PROBLEMS},
    )
    def get(self, request: Request) -> Response:
        """Repositories used before, then those that the host finds."""
        query = request.query_params.get("query", "")[:200].strip()
        return Response({"repositories": repositories.suggest(signed_in(request), query)})
