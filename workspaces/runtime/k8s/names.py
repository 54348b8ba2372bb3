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
