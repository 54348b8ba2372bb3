"""Forgetting what is over."""

from __future__ import annotations

from datetime import datetime, timedelta
from importlib import import_module

from axes.handlers.proxy import AxesProxyHandler
from django.conf import settings

from accounts.models import ApiToken, SignInLink
from accounts.services import sealing

KEPT = timedelta(days=30)


def forget_expired(*, now: datetime) -> None:
    """Delete sessions that ended, and what is more than a month old: links, tokens, the log of sign-ins.

    Of the audit log, what is older than its class is kept.
    """
    long_ago = now - KEPT
    SignInLink.objects.filter(expires_at__lt=long_ago).delete()
    ApiToken.objects.filter(expires_at__lt=long_ago).delete()
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()
    AxesProxyHandler.reset_logs(age_days=KEPT.days)
    sealing.forget(now=now)
