"""Workspaces in Django's admin: to look at. Changes go through the API, so that states stay true."""

from __future__ import annotations

from django.contrib import admin

from kernel.admin import ReadOnly
from workspaces.models import Event, Repository, Workspace


@admin.register(Workspace)
class WorkspaceAdmin(ReadOnly):
    """All workspaces."""

    list_display = ["slug", "owner", "repository", "branch", "state", "reason", "created_at"]
    list_filter = ["state"]
    search_fields = ["slug", "name", "owner__username", "repository__full_name"]
    list_select_related = ["owner", "repository"]


@admin.register(Repository)
class RepositoryAdmin(ReadOnly):
    """All repositories that were ever used."""

    list_display = ["full_name", "provider", "visibility", "default_branch", "fetched_at"]
    search_fields = ["full_name"]


@admin.register(Event)
class EventAdmin(ReadOnly):
    """The history of all workspaces."""

    list_display = ["id", "workspace", "kind", "source", "target", "reason", "text", "actor", "created_at"]
    list_filter = ["kind"]
    list_select_related = ["workspace", "actor"]
