"""What is told only by signal: that a user was disabled."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_save
from django.dispatch import receiver

from accounts.models import User
from kernel import jobs


@receiver(post_save, sender=User)
def stop_what_a_disabled_user_has(instance: User, **_: Any) -> None:
    """Stop their workspaces at once; a periodic look is behind it."""
    if not instance.is_active:
        jobs.enqueue("workspaces.stop_of_disabled", str(instance.pk))
