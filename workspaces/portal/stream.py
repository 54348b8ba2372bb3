"""Live pages: a stream that sends the parts of a page that changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from django.http import HttpRequest, HttpResponseBase

from accounts.models import User
from accounts.selectors import active_user
from kernel.errors import Failure, Unauthenticated
from kernel.http import problem_response
from workspaces import selectors
from workspaces.live import KEEP_ALIVE_SECONDS, LONGEST_STREAM_SECONDS, StreamResponse, Wakeups, event_frame, look
from workspaces.portal.pictures import Picture, Query, detail_picture, list_picture, start_picture
from workspaces.portal.reading import goal_of, tidy

Draw = Callable[[User], Picture]
# Changes come in bursts while a workspace starts: they are drawn together.
BURST_SECONDS = 0.1


async def _caller(request: HttpRequest) -> User:
    user = await request.auser()
    if not isinstance(user, User) or not user.is_active:
        raise Unauthenticated("unauthenticated", "You are signed out.", "Sign in again.")
    return user


async def live(request: HttpRequest) -> HttpResponseBase:
    """The list: rows as they change."""
    try:
        user = await _caller(request)
    except Failure as failure:
        return problem_response(failure, request)
    query = Query(tidy(request.GET.get("q", "")), tidy(request.GET.get("after", "")))
    return await _answer(request, lambda viewer: list_picture(viewer, query), user, lambda: Wakeups(owner=user.pk))


async def live_workspace(request: HttpRequest, slug: str, view: str) -> HttpResponseBase:
    """One workspace: its page, or its start."""
    try:
        user = await _caller(request)
    except Failure as failure:
        return problem_response(failure, request)
    goal = goal_of(request.GET)

    def draw(viewer: User) -> Picture:
        return detail_picture(viewer, slug) if view == "detail" else start_picture(viewer, slug, goal)

    try:
        # Whoever owns it: it may be shared.
        workspace = await look(selectors.workspace_of, user, slug)
    except Failure as failure:
        return problem_response(failure, request)
    return await _answer(request, draw, user, lambda: Wakeups(workspace=str(workspace.pk)))


async def _answer(request: HttpRequest, draw: Draw, user: User, listen: Callable[[], Wakeups]) -> HttpResponseBase:
    """The stream, or a problem when there is nothing to follow: a browser then stops asking."""
    seen = request.headers.get("Last-Event-ID") or request.GET.get("seen", "")

    def drawn() -> Picture:
        # A stream outlives a sign-in: whoever was disabled, or lost a role, sees no more.
        viewer = active_user(user.pk)
        if viewer is None:
            raise Unauthenticated("unauthenticated", "You are signed out.", "Sign in again.")
        return draw(viewer)

    try:
        first = await look(drawn)
        return StreamResponse(request, user.pk, follow(drawn, first, seen, listen))
    except Failure as failure:
        return problem_response(failure, request)


async def follow(
    draw: Callable[[], Picture], first: Picture, seen: str, listen: Callable[[], Wakeups]
) -> AsyncGenerator[bytes]:
    """`part` frames for what is new; the last of a picture carries the picture's digest as its id."""
    # Only now: a stream that is refused, or that answers HEAD, never comes here to close what it listens to.
    wakeups = listen()
    clock = asyncio.get_running_loop().time
    ends = clock() + LONGEST_STREAM_SECONDS
    shown: Picture | None = first if seen == first.digest else None
    picture = first
    yield b"retry: 1000\n\n"
    try:
        while clock() < ends:
            for frame in changes(shown, picture):
                yield frame
            shown = picture
            if await wakeups.wait(KEEP_ALIVE_SECONDS):
                await asyncio.sleep(BURST_SECONDS)
            else:
                yield b": still here\n\n"
            picture = await look(draw)
    except Failure:
        # It was deleted for good, or is somebody else's by now: the page asks again and is told why.
        return
    finally:
        await wakeups.close()


def changes(shown: Picture | None, picture: Picture) -> list[bytes]:
    """The frames that lead from one picture to the next; from none, all of it."""
    if shown is not None and shown.digest == picture.digest:
        return []
    if picture.frame is not None and (shown is None or shown.order != picture.order):
        parts = [picture.frame]
    else:
        old = shown.pieces if shown is not None else {}
        parts = [(name, html) for name, html in picture.pieces.items() if old.get(name) != html]
    frames = [event_frame("part", {"id": name, "html": html}) for name, html in parts[:-1]]
    return frames + [event_frame("part", {"id": name, "html": html}, picture.digest) for name, html in parts[-1:]]
