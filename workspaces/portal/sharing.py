"""Sharing a workspace, by the portal's forms."""

from __future__ import annotations

from datetime import timedelta

from django.contrib import messages
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from accounts import selectors as accounts
from accounts.access import Ability, Level
from accounts.models import Team, User
from kernel.errors import Failure, Invalid
from workspaces import selectors
from workspaces.portal.reading import signed_in, tidy, user_of
from workspaces.services import sharing

LIVES = {"hour": timedelta(hours=1), "day": timedelta(days=1), "month": timedelta(days=30), "": None}


@require_POST
@signed_in
def share(request: HttpRequest, slug: str) -> HttpResponseRedirect:
    """Share it with the person, or the team, that was named."""
    user = user_of(request)
    workspace = selectors.workspace_of(user, slug, ability=Ability.SHARE)
    now = timezone.now()
    try:
        whom = _named(user, tidy(request.POST.get("whom", "")))
        life = LIVES.get(request.POST.get("life", ""))
        sharing.share(
            workspace,
            to=whom,
            level=_level(request.POST.get("level", "")),
            expires_at=now + life if life else None,
            actor=user,
            now=now,
        )
    except Failure as failure:
        messages.error(request, f"{failure.user_text} {failure.next_step}".strip())
    return HttpResponseRedirect(reverse("portal-detail", args=[slug]) + "#shares")


def _level(text: str) -> Level:
    try:
        return Level(text)
    except ValueError as error:
        raise Invalid("level_unknown", "There is no such level.", "Choose one of the list.") from error


def _named(user: User, name: str) -> User | Team:
    """One of the teams that `user` may see, else a person by name or address."""
    team = accounts.teams_of(user).filter(slug=name).first()
    return team or accounts.user_named(name)


@require_POST
@signed_in
def unshare(request: HttpRequest, slug: str, share_id: int) -> HttpResponseRedirect:
    """Take a share back."""
    user = user_of(request)
    workspace = selectors.workspace_of(user, slug, ability=Ability.CHANGE)
    sharing.unshare(workspace, selectors.grant_of(workspace, share_id), actor=user)
    return HttpResponseRedirect(reverse("portal-detail", args=[slug]) + "#shares")
