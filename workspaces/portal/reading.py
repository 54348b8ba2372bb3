"""Reading what a browser sent."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, QueryDict

from accounts.models import User
from workspaces.portal.present import Goal
from workspaces.services.entering import local_path, port_of

LONGEST_TEXT = 200
signed_in = login_required


def tidy(text: str) -> str:
    """What somebody typed into a search box, without what cannot be seen, at most 200 characters."""
    return "".join(letter for letter in text[:LONGEST_TEXT] if letter.isprintable()).strip()


def goal_of(query: QueryDict) -> Goal:
    """Where a start page was asked to lead; to the editor's first page when that is no place in a workspace."""
    return Goal(local_path(query.get("next", "/")), port_of(query.get("port", "")))


def user_of(request: HttpRequest) -> User:
    """The signed-in user of a view behind `signed_in`."""
    user: Any = request.user
    if not isinstance(user, User):
        raise TypeError("this view is not behind signed_in")
    return user
