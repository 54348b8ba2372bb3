"""Buttons, for browsers without scripts; with scripts the same buttons use the API."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone

from accounts.access import Ability
from kernel.errors import Failure, NotFound
from workspaces import selectors
from workspaces.models import Workspace
from workspaces.portal.reading import signed_in, user_of
from workspaces.services import intents
from workspaces.services.entering import local_path

VERBS = {
    "start": Ability.OPERATE,
    "stop": Ability.OPERATE,
    "restart": Ability.OPERATE,
    "delete": Ability.CHANGE,
    "restore": Ability.CHANGE,
    "rename": Ability.CHANGE,
}
_SAID = {"delete": "goes to the trash.", "restore": "is back, with all its files."}


def _intent(request: HttpRequest, verb: str) -> Callable[[Workspace], Workspace]:
    user = user_of(request)
    if verb == "rename":
        return partial(intents.rename, name=request.POST.get("name", ""), actor=user)
    timed = {
        "start": intents.start,
        "stop": intents.stop,
        "restart": intents.restart,
        "delete": intents.delete,
        "restore": intents.restore,
    }
    return partial(timed[verb], actor=user, now=timezone.now())


@signed_in
def act(request: HttpRequest, slug: str, verb: str) -> HttpResponse:
    """Accept one intent and go back to where the button was.

    A GET, which is what is left of a click after signing in again, changes nothing and shows the workspace.
    """
    workspace = selectors.workspace_of(user_of(request), slug, ability=VERBS[verb])
    if request.method != "POST":
        return HttpResponseRedirect(reverse("portal-detail", args=[slug]))
    try:
        _intent(request, verb)(workspace)
    except NotFound:
        raise
    except Failure as failure:
        # Said on the page where the button was: that is where it can be tried again.
        messages.error(request, f"{failure.user_text} {failure.next_step}".strip())
    else:
        if verb in _SAID:
            tags = f"undo:{workspace.slug}" if verb == "delete" else ""
            messages.success(request, f"{workspace.name} {_SAID[verb]}", extra_tags=tags)
    return HttpResponseRedirect(_back(request, slug, verb), status=303)


def _back(request: HttpRequest, slug: str, verb: str) -> str:
    back = local_path(request.POST.get("back", ""))
    start = reverse("portal-start", args=[slug])
    if verb == "start":
        return back if back.startswith(start) else start
    if verb == "delete":
        return reverse("portal-index")
    return back if request.POST.get("back") else reverse("portal-detail", args=[slug])
