"""Who may touch what: the one place that decides.

A person reaches an object only through a selector that filters by one of these predicates, so that somebody else's
object is simply not there.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.auth.models import AnonymousUser
from django.db.models import Q

from accounts.models import Scope, User


def owned_by(user: User | AnonymousUser) -> Q:
    """The rows, of a model with an `owner`, that this user may see and change."""
    if not user.is_authenticated or not user.is_active:
        return Q(pk__in=[])
    return Q(owner=user)


def allows(scopes: Iterable[str], *, write: bool) -> bool:
    """Whether a token with these scopes may read, or write, workspaces."""
    held = set(scopes)
    return Scope.WORKSPACES in held if write else bool(held & {Scope.READ, Scope.WORKSPACES})
