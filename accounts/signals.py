"""The two things Django tells only by signal: a sign-out, and a user who was changed or deleted."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.signals import user_logged_out
from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver
from django.http import HttpRequest

from accounts.models import User
from accounts.services import gateways


@receiver(user_logged_out)
def close_sockets_of_session(request: HttpRequest | None, **_: Any) -> None:
    """A sign-out also closes the workspaces that were opened with this session."""
    key = request.session.session_key if request is not None and hasattr(request, "session") else None
    if request is not None and key:
        # Django ends the session after this signal; gateways that ask at once must not find it alive.
        request.session.delete(key)
        transaction.on_commit(lambda: gateways.revoke_session(key))


@receiver(post_save, sender=User)
def check_sockets_of_changed_user(
    instance: User, update_fields: frozenset[str] | None, *, created: bool, **_: Any
) -> None:
    """Somebody who was disabled, or whose sessions ended with the old password, loses open workspaces too.

    Gateways ask about each, so a change that means nothing to them closes nothing; a sign-in is not worth the question.
    """
    if not created and update_fields != frozenset({"last_login"}):
        transaction.on_commit(lambda: gateways.revoke_user(instance))


@receiver(post_delete, sender=User)
def close_sockets_of_deleted_user(instance: User, **_: Any) -> None:
    """The same for somebody who is gone."""
    transaction.on_commit(lambda: gateways.revoke_user(instance))
