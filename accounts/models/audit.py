"""The audit log."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models


class AuditClass(models.TextChoices):
    """What an entry is about, which decides how long it is kept."""

    CHANGE = "change", "Something was changed"
    ACCESS = "access", "Somebody entered a workspace or read what is secret"
    SECURITY = "security", "Sign-ins, roles, tokens, policies"


class AuditEntry(models.Model):
    """Who did what to which object, and what changed. Written in the transaction of what it tells, never altered.

    People and objects are kept by id and by name as it was, without foreign keys: the log outlives what it tells of.
    `digest` is that of the content, and `seal` that of the whole log up to here (`accounts.services.sealing`). What
    need not be kept any longer is `forgotten`: its content is blank, and its digest still holds the chain together.
    """

    at = models.DateTimeField()
    kind = models.CharField(max_length=10, choices=AuditClass.choices)
    action = models.CharField(max_length=60)
    actor_id = models.BigIntegerField(null=True)
    actor = models.CharField(max_length=200, blank=True)
    via = models.CharField(max_length=40, blank=True)
    object_type = models.CharField(max_length=30)
    object_id = models.CharField(max_length=64)
    object_name = models.CharField(max_length=200, blank=True)
    team_id = models.BigIntegerField(null=True)
    difference: ClassVar[models.JSONField[Any, Any]] = models.JSONField(default=dict)
    reason = models.CharField(max_length=500, blank=True)
    address = models.GenericIPAddressField(null=True)
    request_id = models.CharField(max_length=64, blank=True)
    digest = models.CharField(max_length=64, blank=True, db_default="")
    sequence = models.BigIntegerField(null=True, unique=True)
    seal = models.CharField(max_length=64, blank=True, db_default="")
    forgotten = models.BooleanField(default=False, db_default=False)

    class Meta:
        verbose_name_plural = "audit entries"
        ordering = ["id"]
        indexes = [
            models.Index(fields=["object_type", "object_id", "id"], name="audit_of_object"),
            models.Index(fields=["actor_id", "id"], name="audit_of_actor"),
            models.Index(fields=["team_id", "id"], name="audit_of_team"),
            models.Index(fields=["at"], name="audit_by_time"),
            models.Index(fields=["id"], name="audit_unsealed", condition=models.Q(sequence__isnull=True)),
        ]

    def __str__(self) -> str:
        return f"{self.action} of {self.object_type} {self.object_id}"


class AuditHead(models.Model):
    """Where the sealed log ends: one row, which whoever seals holds locked."""

    sequence = models.BigIntegerField(default=0)
    seal = models.CharField(max_length=64, blank=True)

    def __str__(self) -> str:
        return f"{self.sequence}:{self.seal[:12]}"
