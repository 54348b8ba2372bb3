"""What the API takes and gives."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from workspaces.models import Condition, Event, Repository, Workspace
from workspaces.services.entering import host_url
from workspaces.states import ONLY_COPY, CopyPhase


def _columns(row: Workspace | Repository | Condition, names: Iterable[str]) -> dict[str, Any]:
    """Columns as JSON has them. The framework's own way says the same in five times the time, which long lists show."""
    return {name: _json(getattr(row, name)) for name in names}


def _json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value) if isinstance(value, UUID) else value


class CreateWorkspace(serializers.Serializer[Any]):
    """The body of `POST /workspaces`."""

    repo = serializers.CharField(
        max_length=2048,
        help_text="`owner/name`, a clone URL, or a GitHub URL of a repository, branch, commit or pull request.",
    )
    branch = serializers.CharField(
        max_length=400, required=False, allow_blank=True, allow_null=True, help_text="Default branch where empty."
    )
    name = serializers.CharField(max_length=100, required=False, allow_blank=True, default="")


class ChangeWorkspace(serializers.Serializer[Any]):
    """The body of `PATCH /workspaces/{id}`."""

    name = serializers.CharField(max_length=100)


class RepositorySerializer(serializers.ModelSerializer[Repository]):
    """What is known of a repository."""

    class Meta:
        model = Repository
        fields = (
            "provider",
            "full_name",
            "clone_url",
            "web_url",
            "default_branch",
            "visibility",
            "description",
            "languages",
            "size_kb",
            "head_commit",
            "fetched_at",
        )


class ConditionSerializer(serializers.ModelSerializer[Condition]):
    """A step of a start."""

    class Meta:
        model = Condition
        fields = ("type", "status", "code", "message", "next_step", "progress", "started_at", "finished_at")


class FailureSerializer(serializers.Serializer[Any]):
    """Why a workspace failed, and what to do."""

    code = serializers.CharField()
    text = serializers.CharField()
    next_step = serializers.CharField()
    responsible = serializers.ChoiceField(["user", "cluster", "platform"])


class WorkspaceSerializer(serializers.ModelSerializer[Workspace]):
    """A workspace in a list."""

    url = serializers.SerializerMethodField()
    repository = RepositorySerializer()
    owner = serializers.CharField(source="owner.username")
    failure = serializers.SerializerMethodField()
    # The schema must not depend on what the database at hand can count to.
    generation = serializers.IntegerField(min_value=0)

    class Meta:
        model = Workspace
        fields = (
            "id",
            "slug",
            "name",
            "state",
            "desired",
            "reason",
            "url",
            "owner",
            "repository",
            "branch",
            "commit",
            "failure",
            "warnings",
            "git",
            "ports",
            "generation",
            "created_at",
            "started_at",
            "stopped_at",
            "deleted_at",
            "purge_at",
            "last_activity_at",
        )

    def to_representation(self, instance: Workspace) -> dict[str, Any]:
        """The fields above, in their order."""
        made: dict[str, Any] = {
            "url": self.get_url(instance),
            "owner": instance.owner.username,
            "repository": _columns(instance.repository, RepositorySerializer.Meta.fields),
            "failure": self.get_failure(instance),
        }
        plain = _columns(instance, [name for name in WorkspaceSerializer.Meta.fields if name not in made])
        return {name: made[name] if name in made else plain[name] for name in WorkspaceSerializer.Meta.fields}

    @extend_schema_field(OpenApiTypes.URI)
    def get_url(self, workspace: Workspace) -> str:
        """Where the editor opens."""
        return host_url(workspace.slug)

    @extend_schema_field(FailureSerializer(allow_null=True))
    def get_failure(self, workspace: Workspace) -> dict[str, str] | None:
        """Why it failed; null where it did not."""
        failure = workspace.failure
        return {key: failure[key] for key in ("code", "text", "next_step", "responsible")} if failure else None


class WorkspaceDetail(WorkspaceSerializer):
    """A workspace with the steps of its latest start."""

    kept_as_copy = serializers.SerializerMethodField()
    conditions = serializers.SerializerMethodField()

    class Meta(WorkspaceSerializer.Meta):
        fields = (*WorkspaceSerializer.Meta.fields, "kept_as_copy", "conditions")  # type: ignore[assignment]  # Longer.

    def to_representation(self, instance: Workspace) -> dict[str, Any]:
        """The same and what only the details have."""
        return {
            **super().to_representation(instance),
            "kept_as_copy": self.get_kept_as_copy(instance),
            "conditions": self.get_conditions(instance),
        }

    def get_kept_as_copy(self, workspace: Workspace) -> bool:
        """Whether its files are in a copy alone, from which its next start makes a volume."""
        return CopyPhase(workspace.copy_phase) in ONLY_COPY

    @extend_schema_field(ConditionSerializer(many=True))
    def get_conditions(self, workspace: Workspace) -> list[dict[str, Any]]:
        """The steps, in order; the view has read them."""
        return [_columns(row, ConditionSerializer.Meta.fields) for row in self.context["conditions"]]


class EventSerializer(serializers.ModelSerializer[Event]):
    """An entry of a workspace's history."""

    actor = serializers.CharField(source="actor.username", default=None, allow_null=True)
    generation = serializers.IntegerField(min_value=0)

    class Meta:
        model = Event
        fields = ("id", "kind", "source", "target", "reason", "text", "data", "actor", "generation", "created_at")


class LogLine(serializers.Serializer[Any]):
    """One line of a run's log."""

    time = serializers.CharField(allow_null=True)
    source = serializers.CharField()  # type: ignore[assignment]  # The base class has a `source` of its own meaning.
    level = serializers.CharField()
    text = serializers.CharField()


class WorkspacePage(serializers.Serializer[Any]):
    """A page of a list."""

    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = WorkspaceSerializer(many=True)


class Events(serializers.Serializer[Any]):
    """A part of a workspace's history."""

    events = EventSerializer(many=True)


class Log(serializers.Serializer[Any]):
    """The end of a run's log."""

    run = serializers.IntegerField()
    lines = LogLine(many=True)


class RepositoryLook(serializers.Serializer[Any]):
    """What a form shows for a repository."""

    full_name = serializers.CharField()
    default_branch = serializers.CharField()
    branch = serializers.CharField(allow_null=True)
    visibility = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    languages = serializers.DictField(child=serializers.IntegerField())
    size_kb = serializers.IntegerField(allow_null=True)
    moved_from = serializers.CharField(allow_null=True)
    branches = serializers.ListField(child=serializers.CharField())


class RepositorySuggestion(serializers.Serializer[Any]):
    """A repository to pick; `repo` is what `POST /workspaces` takes."""

    repo = serializers.CharField()
    full_name = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    private = serializers.BooleanField()


class Suggestions(serializers.Serializer[Any]):
    """Repositories to pick from."""

    repositories = RepositorySuggestion(many=True)
