"""Tokens of the API."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from accounts.models.users import User


class Scope(models.TextChoices):
    """What a token may do. Each write scope implies reading."""

    READ = "read", "Read everything its owner may see"
    WORKSPACES = "workspaces", "Create, change, open and delete workspaces"
    ADMIN = "admin", "Change teams and who is in them"


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
    last_used_from = models.GenericIPAddressField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} of {self.user_id}"
