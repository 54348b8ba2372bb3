"""Writing accounts: tokens, sign-in links, the embedded owner."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from importlib import import_module

from axes.handlers.proxy import AxesProxyHandler
from django.conf import settings
from django.db import transaction

from accounts.models import ApiToken, Scope, SignInLink, User
from kernel import crypto, errors, redis

LONGEST_TOKEN_LIFE = timedelta(days=366)
LINK_LIFE = timedelta(hours=1)
KEPT = timedelta(days=30)
OWNER = "admin"


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
    if not timedelta(0) < life <= LONGEST_TOKEN_LIFE:
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


def ensure_owner() -> User:
    """The embedded default's owner account, which has no password: it signs in by link."""
    user, created = User.objects.get_or_create(
        username=OWNER, defaults={"is_staff": True, "is_superuser": True, "display_name": "Admin"}
    )
    if created:
        user.set_unusable_password()
        user.save(update_fields=["password"])
    return user


def create_sign_in_link(*, user: User, now: datetime) -> str:
    """The secret of a link that signs `user` in once, within an hour. Older unused links of theirs end."""
    secret = crypto.new_token("slk_")
    with transaction.atomic():
        SignInLink.objects.filter(user=user, used_at=None).delete()
        SignInLink.objects.create(user=user, digest=crypto.digest(secret), expires_at=now + LINK_LIFE)
    return secret


def redeem_sign_in_link(secret: str, *, now: datetime) -> User:
    """The user of a link that nobody used before.

    Raises:
        Unauthenticated: unknown, used or expired; which of them is not told.
    """
    row = SignInLink.objects.select_related("user").filter(digest=crypto.digest(secret), expires_at__gt=now).first()
    won = row and SignInLink.objects.filter(pk=row.pk, used_at=None).update(used_at=now)
    if row is None or not won or not row.user.is_active:
        raise errors.Unauthenticated(
            "link_spent",
            "This sign-in link was used before or has expired.",
            "Make a new one: run `make sign-in` where Slipway runs.",
        )
    return row.user


def session_tag(session_key: str) -> str:
    """What gateways know a session by: tells nothing about its key."""
    return hashlib.blake2b(session_key.encode(), digest_size=12, person=b"session-tag").hexdigest()


def revoke_session(session_key: str) -> None:
    """Have every gateway ask again about this session, and close its sockets."""
    redis.publish(redis.REVOCATIONS, {"session": session_tag(session_key)})


def revoke_user(user: User) -> None:
    """Have every gateway ask again about everything that this user has open."""
    redis.publish(redis.REVOCATIONS, {"user": str(user.pk)})


def revoke_token(token: ApiToken, *, now: datetime) -> None:
    """End a token at once."""
    ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=now)
    transaction.on_commit(lambda: revoke_user(token.user))


def forget_expired(*, now: datetime) -> None:
    """Delete sessions that ended, and what is more than a month old: links, tokens, the log of sign-ins."""
    long_ago = now - KEPT
    SignInLink.objects.filter(expires_at__lt=long_ago).delete()
    ApiToken.objects.filter(expires_at__lt=long_ago).delete()
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()
    AxesProxyHandler.reset_logs(age_days=KEPT.days)
