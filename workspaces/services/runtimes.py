"""The runtime that the settings name, and what a run of a workspace is given."""

from __future__ import annotations

import functools

from django.conf import settings
from django.utils.module_loading import import_string

from workspaces.models import Workspace
from workspaces.runtime.port import Limits, RunSpec, Runtime
from workspaces.services import devclusters
from workspaces.services.entering import host_url
from workspaces.services.report import REPORT_INTERVAL
from workspaces.services.repositories import local_folder
from workspaces.services.run_secrets import door_key, run_token


@functools.cache
def runtime() -> Runtime:
    """One adapter per process, built by the factory that `settings.RUNTIME` names."""
    made: Runtime = import_string(settings.RUNTIME["factory"])(settings.RUNTIME["options"])
    return made


def run_spec(workspace: Workspace) -> RunSpec:
    """The specification of the workspace's present run: the same each time it is asked for.

    Raises:
        Invalid: its repository is a folder that a workspace must not see.
    """
    env = settings.ENVIRONMENT
    owner = workspace.owner
    clone_url = workspace.clone_url or workspace.repository.clone_url
    folder = local_folder(clone_url)
    return RunSpec(
        name=workspace.slug,
        run=workspace.run,
        agent={
            "workspace": {"id": str(workspace.pk), "slug": workspace.slug},
            "run": workspace.run,
            "repository": {
                "clone_url": clone_url,
                "full_name": workspace.repository_name or workspace.repository.full_name,
                "ref": workspace.ref,
                "branch": workspace.branch or None,
                "commit": workspace.commit or None,
            },
            "identity": {
                "name": owner.shown_name,
                "email": owner.email or f"{owner.username}@users.noreply.{env.domain}",
            },
            "urls": {
                "workspace": host_url(workspace.slug),
                "port": host_url(f"{{{{port}}}}-{workspace.slug}"),
            },
            "report_interval": REPORT_INTERVAL,
            **devclusters.told(workspace.slug),
        },
        secrets={
            "run_token": run_token(workspace.pk, workspace.run),
            "door_key": door_key(workspace.pk, workspace.run),
        },
        readable=(str(folder),) if folder else (),
        limits=Limits(
            cpu=env.workspace_cpu or None,
            memory=env.workspace_memory or None,
            processes=env.workspace_processes or None,
        ),
    )
