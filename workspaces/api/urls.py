"""API addresses of workspaces; no trailing slashes."""

from django.urls import path

from workspaces.api import sharing, stream, views

urlpatterns = [
    path("workspaces", views.WorkspaceList.as_view(), name="workspace-list"),
    path("workspaces/<uuid:workspace_id>", views.WorkspaceItem.as_view(), name="workspace-item"),
    path("workspaces/<uuid:workspace_id>/start", views.StartWorkspace.as_view(), name="workspace-start"),
    path("workspaces/<uuid:workspace_id>/stop", views.StopWorkspace.as_view(), name="workspace-stop"),
    path("workspaces/<uuid:workspace_id>/restart", views.RestartWorkspace.as_view(), name="workspace-restart"),
    path("workspaces/<uuid:workspace_id>/restore", views.RestoreWorkspace.as_view(), name="workspace-restore"),
    path("workspaces/<uuid:workspace_id>/events", stream.WorkspaceEvents.as_view(), name="workspace-events"),
    path("workspaces/<uuid:workspace_id>/logs", views.WorkspaceLogs.as_view(), name="workspace-logs"),
    path("workspaces/<uuid:workspace_id>/shares", sharing.SharesView.as_view(), name="shares"),
    path("workspaces/<uuid:workspace_id>/shares/<int:share_id>", sharing.ShareView.as_view(), name="share"),
    path("workspaces/<uuid:workspace_id>/break-glass", sharing.BreakGlassView.as_view(), name="break-glass"),
    path("repositories/branches", views.RepositoryBranches.as_view(), name="repository-branches"),
    path("repositories/suggestions", views.RepositorySuggestions.as_view(), name="repository-suggestions"),
]
