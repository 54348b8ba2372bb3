"""A workspace's events: as JSON, or as server-sent events that a client can resume (HTML standard, section 9.2)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID

from django.http import HttpRequest, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import signed_in
from accounts.selectors import active_user
from kernel.shapes import PROBLEMS
from workspaces import selectors
from workspaces.api import serializers as shapes
from workspaces.live import KEEP_ALIVE_SECONDS, LONGEST_STREAM_SECONDS, StreamResponse, Wakeups, event_frame, look
from workspaces.models import Workspace


class EventStream(BaseRenderer):
    """Lets the REST framework accept `Accept: text/event-stream`; the stream itself is written below."""

    media_type = "text/event-stream"
    format = "sse"
    charset = None

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        """Errors, which come before a stream begins, are JSON all the same."""
        return json.dumps(data).encode()


async def follow(workspace: Workspace, user_id: int, after: int) -> AsyncGenerator[bytes]:
    """History from `after` on, then what happens: `event` frames with ids, and `workspace` frames with its present."""
    wakeups = Wakeups(workspace=str(workspace.pk))
    ends = asyncio.get_running_loop().time() + LONGEST_STREAM_SECONDS
    present: Any = None
    yield b"retry: 1000\n\n"
    try:
        while asyncio.get_running_loop().time() < ends:
            rows, now = await look(_look, user_id, workspace.pk, after)
            for row in rows:
                after = row["id"]
                yield event_frame("event", row, after)
            if now is None:
                return
            if now != present:
                present = now
                yield event_frame("workspace", now)
            if not await wakeups.wait(KEEP_ALIVE_SECONDS):
                yield b": still here\n\n"
    finally:
        await wakeups.close()


def _look(user_id: int, pk: UUID, after: int) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """What is new for somebody; nothing any more once they may not see it, since a stream outlives a role."""
    user = active_user(user_id)
    workspace = selectors.visible_to(user).filter(pk=pk).first() if user else None
    if workspace is None:
        return [], None
    rows = [dict(shapes.EventSerializer(event).data) for event in selectors.events_of(workspace, after=after)]
    context = {"conditions": selectors.conditions_of(workspace)}
    return rows, json.loads(JSONRenderer().render(shapes.WorkspaceDetail(workspace, context=context).data))


def resume_point(request: HttpRequest | Request) -> int:
    """The id after which to go on: `Last-Event-ID`, else `?after=`, else 0. What is not a number counts as 0."""
    text = request.headers.get("Last-Event-ID") or request.GET.get("after") or "0"
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


class WorkspaceEvents(APIView):
    """The history of a workspace."""

    renderer_classes = (JSONRenderer, EventStream)

    @extend_schema(
        operation_id="workspaces_events",
        parameters=[
            OpenApiParameter("after", int, description="Id of the last entry that is known already."),
            OpenApiParameter(
                "Last-Event-ID", str, OpenApiParameter.HEADER, description="The same, as browsers send it."
            ),
        ],
        responses={
            (200, "application/json"): shapes.Events,
            (200, "text/event-stream"): OpenApiTypes.STR,
            **PROBLEMS,
        },
    )
    def get(self, request: Request, workspace_id: UUID) -> Response | StreamingHttpResponse:
        """Up to 500 entries after the given one; with `Accept: text/event-stream`, all that follow too."""
        workspace = selectors.workspace_of(request.user, workspace_id)
        after = resume_point(request)
        if request.accepted_media_type == EventStream.media_type:
            return StreamResponse(request, signed_in(request).pk, follow(workspace, signed_in(request).pk, after))
        rows = selectors.events_of(workspace, after=after)
        return Response({"events": shapes.EventSerializer(rows, many=True).data})
