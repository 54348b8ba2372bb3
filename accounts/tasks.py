"""Periodic work."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from accounts.services import housekeeping


@shared_task(name="housekeeping.forget_expired")
def forget_expired() -> None:
    """Drop sessions that ended, and links, tokens and the log of sign-ins where they are old."""
    housekeeping.forget_expired(now=timezone.now())
