"""Pages that only show."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.access import Ability
from workspaces import selectors
from workspaces.portal import present
from workspaces.portal.pictures import PAGE, Query, detail_picture, list_picture, start_picture
from workspaces.portal.reading import goal_of, signed_in, tidy, user_of
from workspaces.services import entering
from workspaces.services.runtimes import runtime


@never_cache
@require_safe
@signed_in
def index(request: HttpRequest) -> HttpResponse:
    """All workspaces, newest first."""
    query = Query(tidy(request.GET.get("q", "")), tidy(request.GET.get("after", "")))
    picture = list_picture(user_of(request), query)
    return render(request, "workspaces/index.html", {"picture": picture, "query": query})


@never_cache
@require_safe
@signed_in
def trash(request: HttpRequest) -> HttpResponse:
    """What was deleted and can be restored."""
    rows = selectors.trash_of(user_of(request))
    found, older = selectors.page_of(rows, by="deleted_at", after=tidy(request.GET.get("after", "")), limit=PAGE)
    return render(request, "workspaces/trash.html", {"rows": [present.show(row) for row in found], "older": older})


@never_cache
@require_safe
@signed_in
def detail(request: HttpRequest, slug: str) -> HttpResponse:
    """One workspace: state, why, facts, history, log."""
    workspace = selectors.workspace_of(user_of(request), slug)
    picture = detail_picture(user_of(request), slug)
    context = {"picture": picture, "workspace": workspace, "row": present.show(workspace)}
    return render(request, "workspaces/detail.html", context)


@never_cache
@require_safe
@signed_in
def start(request: HttpRequest, slug: str) -> HttpResponse:
    """A workspace's start, step by step; leads on to the editor by itself. Looking at it starts nothing."""
    workspace = selectors.workspace_of(user_of(request), slug)
    goal = goal_of(request.GET)
    context = {
        "picture": start_picture(user_of(request), slug, goal),
        "workspace": workspace,
        "row": present.show(workspace),
        "goal": goal,
        "landing": present.landing(workspace, goal),
    }
    return render(request, "workspaces/start.html", context)


@never_cache
@require_safe
@signed_in
def log(request: HttpRequest, slug: str) -> HttpResponse:
    """The log of the latest run as plain text."""
    workspace = selectors.workspace_of(user_of(request), slug, ability=Ability.OPERATE)
    lines = selectors.log_lines(runtime().logs(workspace.slug, run=workspace.run))
    text = "\n".join(f"{line['time'] or '-'} {line['source']}: {line['text']}" for line in lines)
    return HttpResponse(text or "Nothing was written yet.", content_type="text/plain; charset=utf-8")


@never_cache
@require_safe
@signed_in
def enter(request: HttpRequest) -> HttpResponseRedirect:
    """From here to a workspace's own host, with a one-time code (see `services.entering`)."""
    address = entering.enter(
        user=user_of(request),
        session_key=request.session.session_key or "",
        label=request.GET.get("label", ""),
        state=request.GET.get("state", ""),
        path=request.GET.get("next", "/"),
    )
    return HttpResponseRedirect(address)
