"""Telling the gateways that access has ended: they ask again, and close the sockets of those who may no longer."""

from __future__ import annotations

import hashlib

from accounts.models import User
from kernel import redis


def session_tag(session_key: str) -> str:
    """What gateways know a session by: tells nothing about its key."""
    return hashlib.blake2b(session_key.encode(), digest_size=12, person=b"session-tag").hexdigest()


def revoke_session(session_key: str) -> None:
    """Have every gateway ask again about this session, and close its sockets."""
    redis.publish(redis.REVOCATIONS, {"session": session_tag(session_key)})


def revoke_user(user: User) -> None:
    """Have every gateway ask again about everything that this user has open."""
    redis.publish(redis.REVOCATIONS, {"user": str(user.pk)})
