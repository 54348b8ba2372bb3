"""The form that creates a workspace."""

from __future__ import annotations

import dataclasses
import uuid

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from kernel.errors import Failure
from kernel.throttle import count_lookup
from workspaces.portal.reading import signed_in, user_of
from workspaces.selectors import recent_repositories
from workspaces.services import create

FIELDS = frozenset({"repo", "branch", "name"})
LONGEST = {"repo": 2048, "branch": 400, "name": 400}


@dataclasses.dataclass(frozen=True, slots=True)
class Filled:
    """What the form holds. `key` makes two clicks, or a reload, one workspace."""

    repo: str = ""
    branch: str = ""
    name: str = ""
    key: str = ""


def _new_key() -> str:
    return str(uuid.uuid4())


def _read(values: dict[str, str]) -> Filled:
    kept = {name: values.get(name, "")[:most].strip() for name, most in LONGEST.items()}
    return Filled(**kept, key=values.get("key", ""))


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def new(request: HttpRequest) -> HttpResponse:
    """Show the form, filled in from the address, or create what it says and show the start."""
    if request.method != "POST":
        return _form(request, dataclasses.replace(_read(request.GET.dict()), key=_new_key()))
    filled = _read(request.POST.dict())
    try:
        count_lookup(request)
        workspace, _ = create.create(
            owner=user_of(request),
            repo=filled.repo,
            branch=filled.branch or None,
            name=filled.name,
            idempotency_key=filled.key,
            now=timezone.now(),
        )
    except Failure as failure:
        if failure.code.startswith("idempotency_key"):
            # The form was sent before, or is not ours: what it says now is a new wish.
            filled = dataclasses.replace(filled, key=_new_key())
        return _form(request, filled, failure)
    return HttpResponseRedirect(reverse("portal-start", args=[workspace.slug]), status=303)


def _form(request: HttpRequest, filled: Filled, failure: Failure | None = None) -> HttpResponse:
    field = failure.field if failure is not None and failure.field in FIELDS else ""
    if failure is not None and failure.code == "idempotency_key_reused":
        failure.user_text = "This form has already created a workspace."
        failure.next_step = "Send it again to create another one."
    context = {
        "filled": filled,
        "failure": failure,
        "field": field,
        "recent": recent_repositories(user_of(request), limit=6),
    }
    return render(request, "workspaces/new.html", context, status=failure.status if failure else 200)
