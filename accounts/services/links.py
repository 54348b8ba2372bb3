"""The embedded default's owner, and links that sign people in once."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.contrib.auth.hashers import make_password
from django.db import transaction

from accounts.models import SignInLink, User
from kernel import crypto, errors

LINK_LIFE = timedelta(hours=1)
OWNER = "admin"


def ensure_owner() -> User:
    """The embedded default's owner account, which has no password: it signs in by link."""
    # In one statement: a change of an account is told to gateways, by a Redis that does not run yet at the first start.
    no_password = make_password(None)
    user, _ = User.objects.get_or_create(
        username=OWNER,
        defaults={"is_staff": True, "is_superuser": True, "display_name": "Admin", "password": no_password},
    )
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
