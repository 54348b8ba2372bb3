"""Periodic work."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from accounts.services import housekeeping, sealing


@shared_task(name="housekeeping.forget_expired")
def forget_expired() -> None:
    """Drop sessions that ended, and links, tokens and the log of sign-ins where they are old."""
    housekeeping.forget_expired(now=timezone.now())


@shared_task(name="accounts.seal_audit")
def seal_audit() -> None:
    """Make what was recorded lately part of the chain."""
    while sealing.seal():
        pass
