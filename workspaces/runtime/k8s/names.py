"""What the objects of a workspace are called, and how they are found again. Pure."""

from __future__ import annotations

import dataclasses

from workspaces.runtime.k8s.config import K8sConfig
from workspaces.runtime.names import checked

WORKSPACE = "slipway.dev/workspace"
INSTANCE = "slipway.dev/instance"
RUN = "slipway.dev/run"
POLICY = "slipway.dev/policy"
DIGEST = "slipway.dev/spec-digest"
ORPHAN = "slipway.dev/orphan-seconds"
TEMPLATE = "slipway.dev/template-digest"
# On a job's pod in the place of WORKSPACE: it is none of the workspace's runs.
JOB = "slipway.dev/job"
# On a claim: the pod that reads it, the copy that it is being made from, and the one that it was made from.
SAVING = "slipway.dev/saving"
RESTORING = "slipway.dev/restoring"
RESTORED = "slipway.dev/restored-from"
MANAGED_BY = "app.kubernetes.io/managed-by"

CONTAINER = "workspace"


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where the objects of one workspace are.

    Attributes:
        workspace: its name.
        namespace: its own one, or the one that all share.
        name: of each object; kinds tell them apart.
        instance: the installation that they belong to.
    """

    workspace: str
    namespace: str
    name: str
    instance: str

    @property
    def labels(self) -> dict[str, str]:
        """On everything that belongs to the workspace."""
        return {MANAGED_BY: "slipway", INSTANCE: self.instance, WORKSPACE: self.workspace}

    @property
    def job_labels(self) -> dict[str, str]:
        """On a job that is at work for the workspace."""
        return {MANAGED_BY: "slipway", INSTANCE: self.instance, JOB: self.workspace}

    def run_name(self, run: int) -> str:
        """Of what belongs to one run."""
        return f"{self.name}-{run}"


def place(config: K8sConfig, workspace: str) -> Place:
    """Where a workspace's objects are. The same name always leads to the same place.

    Raises:
        PlatformFault: the name is no DNS label.
    """
    name = f"{config.prefix}{checked(workspace)}"
    return Place(workspace, config.namespace or name, name, config.instance)


def selector(config: K8sConfig) -> str:
    """Selects everything that belongs to any workspace of this installation."""
    return f"{INSTANCE}={config.instance},{WORKSPACE}"


def labelled(at: Place) -> str:
    """Selects everything that belongs to one workspace of this installation."""
    return f"{INSTANCE}={at.instance},{WORKSPACE}={at.workspace}"
