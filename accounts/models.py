"""Users, tokens and one-time sign-in links."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """Somebody who may sign in. `display_name` is how they are called; the rest is Django's."""

    display_name = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return self.username

    @property
    def shown_name(self) -> str:
        """What the portal and git call them."""
        return self.display_name or self.get_full_name() or self.username


class Scope(models.TextChoices):
    """What a token may do. Each write scope implies reading."""

    READ = "read", "Read everything its owner may see"
    WORKSPACES = "workspaces", "Create, change, open and delete workspaces"


class ApiToken(models.Model):
    """A bearer token: only its digest is kept."""

    PREFIX: ClassVar[str] = "slp_"

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100)
    digest = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} of {self.user_id}"


class SignInLink(models.Model):
    """A link that signs its user in once."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sign_in_links")
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"sign-in link of {self.user_id}"
