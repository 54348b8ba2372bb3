"""Tokens of the API."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction

from accounts.models import ApiToken, Scope, User
from accounts.services.gateways import revoke_user
from kernel import crypto, errors

LONGEST_LIFE = timedelta(days=366)


def parse_scopes(names: Iterable[str]) -> list[str]:
    """Known scopes, sorted and without doubles.

    Raises:
        Invalid: none was named, or one is unknown.
    """
    wanted = sorted({name.strip() for name in names if name.strip()})
    known = ", ".join(Scope.values)
    if not wanted:
        raise errors.Invalid("scopes_missing", "A token needs at least one scope.", f"Choose from: {known}.")
    for name in wanted:
        if name not in Scope.values:
            raise errors.Invalid("scope_unknown", f"There is no scope {name!r}.", f"Choose from: {known}.")
    return wanted


def create_token(
    *, user: User, name: str, scopes: Iterable[str], life: timedelta, now: datetime
) -> tuple[ApiToken, str]:
    """Make a token; its secret is returned this once and cannot be read again."""
    if not timedelta(0) < life <= LONGEST_LIFE:
        raise errors.Invalid("token_life", "A token may live for 1 to 366 days.", "Choose a shorter life.")
    secret = crypto.new_token(ApiToken.PREFIX)
    token = ApiToken.objects.create(
        user=user, name=name[:100], digest=crypto.digest(secret), scopes=parse_scopes(scopes), expires_at=now + life
    )
    return token, secret


def note_token_use(token: ApiToken, *, now: datetime) -> None:
    """Keep when a token was last used, at most once a minute: reading must not become writing."""
    if token.last_used_at is None or now - token.last_used_at > timedelta(minutes=1):
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)


def revoke_token(token: ApiToken, *, now: datetime) -> None:
    """End a token at once."""
    ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=now)
    transaction.on_commit(lambda: revoke_user(token.user))
