"""Tokens of the API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from accounts.models import ApiToken, AuditClass, Scope, User
from accounts.services import audit
from accounts.services.gateways import revoke_user
from kernel import crypto, errors, origin

LONGEST_LIFE = timedelta(days=366)
MOST_TOKENS = 100


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
    """Make a token; its secret is returned this once and cannot be read again.

    Raises:
        Invalid: the scopes or the life will not do.
        TooMany: the user has as many living tokens as one person may have.
    """
    if not timedelta(0) < life <= LONGEST_LIFE:
        raise errors.Invalid(
            "token_life", "A token may live for 1 to 366 days.", "Choose a shorter life.", field="days"
        )
    wanted = parse_scopes(scopes)
    secret = crypto.new_token(ApiToken.PREFIX)
    with transaction.atomic():
        # One after the other, so that two cannot pass the limit together.
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        if ApiToken.objects.filter(user=user, revoked_at=None, expires_at__gt=now).count() >= MOST_TOKENS:
            raise errors.TooMany(
                "too_many_tokens",
                f"You have {MOST_TOKENS} tokens already.",
                "Revoke those that you no longer need.",
                temporary=False,
            )
        token = ApiToken.objects.create(
            user=user, name=name[:100], digest=crypto.digest(secret), scopes=wanted, expires_at=now + life
        )
        _note("token.create", token, user, {"scopes": (None, ", ".join(wanted)), "expires_at": (None, now + life)})
    return token, secret


def note_token_use(token: ApiToken, *, now: datetime) -> None:
    """Keep when and from where a token was last used, at most once a minute: reading must not become writing."""
    if token.last_used_at is None or now - token.last_used_at > timedelta(minutes=1):
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now, last_used_from=origin.current().address)


def revoke_token(token: ApiToken, *, actor: User | None, now: datetime) -> None:
    """End a token at once; what has ended stays as it is."""
    with transaction.atomic():
        if not ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=now):
            return
        _note("token.revoke", token, actor, {"revoked_at": (None, now)})
        transaction.on_commit(lambda: revoke_user(token.user))


def _note(action: str, token: ApiToken, actor: User | None, difference: Mapping[str, tuple[Any, Any]]) -> None:
    subject = audit.Subject("token", token.pk, token.name)
    audit.record(action, subject, actor=actor, kind=AuditClass.SECURITY, difference=difference)
