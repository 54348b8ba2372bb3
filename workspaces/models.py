"""Repositories, workspaces, the steps of their starts and their history.

`state` is written by `services.transition` alone; everything else has its service too.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.db import models

from accounts.access import Level
from accounts.models import Team
from workspaces.states import ConditionStatus, ConditionType, CopyPhase, Desired, EventKind, State


def _choices(words: type[Any]) -> list[tuple[str, str]]:
    return [(word.value, word.value) for word in words]


class Repository(models.Model):
    """What is known of a repository since its host was last asked."""

    provider = models.CharField(max_length=20)
    external_id = models.CharField(max_length=200, blank=True)
    full_name = models.CharField(max_length=400)
    clone_url = models.CharField(max_length=2048, unique=True)
    web_url = models.CharField(max_length=2048, blank=True)
    default_branch = models.CharField(max_length=400, blank=True)
    visibility = models.CharField(max_length=20, default="unknown")
    description = models.TextField(blank=True)
    languages = models.JSONField(default=dict)
    size_kb = models.BigIntegerField(null=True)
    head_commit = models.CharField(max_length=64, blank=True)
    fetched_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "repositories"
        indexes = [models.Index(fields=["provider", "external_id"], name="repository_external")]

    def __str__(self) -> str:
        return self.full_name


class Workspace(models.Model):
    """A development environment: an owner's copy of a repository, its volume, and at times a run."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    slug = models.CharField(max_length=40, unique=True)
    name = models.CharField(max_length=100)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="workspaces")
    # Whose colleagues see it. A team cannot be deleted while something is in it; what is purged leaves it.
    team = models.ForeignKey(Team, null=True, on_delete=models.PROTECT, related_name="workspaces")
    repository = models.ForeignKey(Repository, on_delete=models.PROTECT, related_name="workspaces")
    # As they were when it was created: a repository that is renamed later must not move the checkout.
    clone_url = models.CharField(max_length=2048, blank=True)
    repository_name = models.CharField(max_length=400, blank=True)
    ref = models.CharField(max_length=500)
    branch = models.CharField(max_length=400, blank=True)
    commit = models.CharField(max_length=64, blank=True)
    idempotency_key = models.CharField(max_length=128, null=True, blank=True)  # noqa: DJ001 - NULLs are distinct, "" is not.
    request_digest = models.CharField(max_length=64, blank=True)

    state = models.CharField(max_length=10, choices=_choices(State), default=State.PENDING.value)
    desired = models.CharField(max_length=10, choices=_choices(Desired), default=Desired.RUNNING.value)
    generation = models.PositiveIntegerField(default=1)
    reason = models.CharField(max_length=20, default="created")
    restart_pending = models.BooleanField(default=False)
    run = models.PositiveIntegerField(default=0)
    launched_run = models.PositiveIntegerField(default=0)
    interruptions = models.PositiveSmallIntegerField(default=0)
    failure = models.JSONField(default=dict)
    upstream = models.JSONField(default=dict)
    warnings = models.JSONField(default=list)
    git = models.JSONField(default=dict)
    ports = models.JSONField(default=list)
    # With defaults of the database's own: during an upgrade the version before this one inserts rows too.
    copy_phase = models.CharField(
        max_length=10, choices=_choices(CopyPhase), default=CopyPhase.NONE.value, db_default="", blank=True
    )
    copy = models.JSONField(default=dict, db_default={})

    created_at = models.DateTimeField(auto_now_add=True)
    wanted_at = models.DateTimeField()
    progress_at = models.DateTimeField()
    look_again_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    stopped_at = models.DateTimeField(null=True)
    deleted_at = models.DateTimeField(null=True)
    purge_at = models.DateTimeField(null=True)
    last_activity_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["owner", "idempotency_key"], name="workspace_once_per_key"),
        ]
        indexes = [
            models.Index(fields=["owner", "-created_at", "-id"], name="workspace_of_owner"),
            models.Index(fields=["team", "-created_at", "-id"], name="workspace_of_team"),
            models.Index(
                fields=["look_again_at"], name="workspace_due", condition=models.Q(look_again_at__isnull=False)
            ),
            models.Index(fields=["purge_at"], name="workspace_purge", condition=models.Q(state="deleted")),
        ]

    def __str__(self) -> str:
        return self.slug


class Condition(models.Model):
    """One step of one run's start."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="conditions")
    run = models.PositiveIntegerField()
    type = models.CharField(max_length=12, choices=_choices(ConditionType))
    status = models.CharField(max_length=8, choices=_choices(ConditionStatus))
    code = models.CharField(max_length=60, blank=True)
    message = models.TextField(blank=True)
    next_step = models.TextField(blank=True)
    progress = models.FloatField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "run", "type"], name="condition_once_per_run")]

    def __str__(self) -> str:
        return f"{self.type}: {self.status}"


class Event(models.Model):
    """An entry in a workspace's history. Its id orders the stream and is what a client resumes from."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="events")
    kind = models.CharField(max_length=10, choices=_choices(EventKind))
    source = models.CharField(max_length=10, blank=True)
    target = models.CharField(max_length=10, blank=True)
    reason = models.CharField(max_length=20, blank=True)
    text = models.TextField(blank=True)
    data = models.JSONField(default=dict)
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    generation = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["workspace", "id"], name="event_of_workspace")]

    def __str__(self) -> str:
        return f"{self.kind} {self.source}->{self.target}"


class Grant(models.Model):
    """Somebody, or a team, whom a workspace's owner lets in; or a platform admin who broke the glass (`emergency`).

    What `accounts.access` makes of it is its table. An emergency always has a reason and an end.
    """

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="grants")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="grants")
    team = models.ForeignKey(Team, null=True, on_delete=models.CASCADE, related_name="grants")
    level = models.CharField(max_length=10, choices=_choices(Level))
    emergency = models.BooleanField(default=False)
    reason = models.CharField(max_length=500, blank=True)
    granted_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="grant_to_one", condition=models.Q(user__isnull=True) ^ models.Q(team__isnull=True)
            ),
            models.CheckConstraint(
                name="grant_emergency_ends",
                condition=models.Q(emergency=False) | (models.Q(expires_at__isnull=False) & ~models.Q(reason="")),
            ),
            models.UniqueConstraint(fields=["workspace", "user", "emergency"], name="grant_once_per_user"),
            models.UniqueConstraint(fields=["workspace", "team"], name="grant_once_per_team"),
        ]

    def __str__(self) -> str:
        return f"{self.level} of {self.workspace_id}"
