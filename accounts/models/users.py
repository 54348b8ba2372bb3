"""Users and their one-time sign-in links."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models


class PlatformRole(models.TextChoices):
    """What somebody may do beyond their own workspaces and teams.

    It is read off Django's two flags, which its admin looks at too: `is_superuser` makes an admin, `is_staff` alone an
    auditor.
    """

    MEMBER = "member", "Member"
    AUDITOR = "auditor", "Auditor: sees everything, changes nothing"
    ADMIN = "admin", "Platform admin"


class User(AbstractUser):
    """Somebody who may sign in. `display_name` is how they are called; the rest is Django's."""

    display_name = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return self.username

    @property
    def shown_name(self) -> str:
        """What the portal and git call them."""
        return self.display_name or self.get_full_name() or self.username

    @property
    def platform_role(self) -> PlatformRole:
        """What they may do beyond their own workspaces and teams."""
        if self.is_superuser:
            return PlatformRole.ADMIN
        return PlatformRole.AUDITOR if self.is_staff else PlatformRole.MEMBER


class SignInLink(models.Model):
    """A link that signs its user in once."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sign_in_links")
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"sign-in link of {self.user_id}"
