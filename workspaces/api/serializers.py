"""What the API takes and gives."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from workspaces.models import Condition, Event, Repository, Workspace
from workspaces.services.entering import host_url


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

    def get_url(self, workspace: Workspace) -> str:
        """Where the editor opens."""
        return host_url(workspace.slug)

    def get_failure(self, workspace: Workspace) -> dict[str, str] | None:
        """Why it failed; null where it did not."""
        failure = workspace.failure
        return {key: failure[key] for key in ("code", "text", "next_step", "responsible")} if failure else None


class WorkspaceDetail(WorkspaceSerializer):
    """A workspace with the steps of its latest start."""

    conditions = serializers.SerializerMethodField()

    class Meta(WorkspaceSerializer.Meta):
        fields = (*WorkspaceSerializer.Meta.fields, "conditions")  # type: ignore[assignment]  # One longer.

    def get_conditions(self, workspace: Workspace) -> list[dict[str, Any]]:
        """The steps, in order; the view has read them."""
        return list(ConditionSerializer(self.context["conditions"], many=True).data)


class EventSerializer(serializers.ModelSerializer[Event]):
    """An entry of a workspace's history."""

    actor = serializers.CharField(source="actor.username", default=None, allow_null=True)

    class Meta:
        model = Event
        fields = ("id", "kind", "source", "target", "reason", "text", "data", "actor", "generation", "created_at")


class LogLine(serializers.Serializer[Any]):
    """One line of a run's log."""

    time = serializers.CharField(allow_null=True)
    source = serializers.CharField()  # type: ignore[assignment]  # The base class has a `source` of its own meaning.
    level = serializers.CharField()
    text = serializers.CharField()


class Problem(serializers.Serializer[Any]):
    """An error, as problem+json (RFC 9457)."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField()
    detail = serializers.CharField()
    next_step = serializers.CharField()
    responsible = serializers.CharField()
    temporary = serializers.BooleanField()
    field = serializers.CharField(required=False)
    request_id = serializers.CharField(required=False)
