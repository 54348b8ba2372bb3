"""Reading accounts."""

from __future__ import annotations

from datetime import datetime

from accounts.models import ApiToken, User
from kernel import crypto


def active_user(user_id: int | str) -> User | None:
    """The user with this id, unless disabled."""
    return User.objects.filter(pk=user_id, is_active=True).first()


def valid_token(secret: str, *, now: datetime) -> ApiToken | None:
    """The token row for a bearer secret: known, not revoked, not expired, of an active user."""
    if not crypto.looks_like_token(secret, ApiToken.PREFIX):
        return None
    return (
        ApiToken.objects.select_related("user")
        .filter(digest=crypto.digest(secret), revoked_at=None, expires_at__gt=now, user__is_active=True)
        .first()
    )
