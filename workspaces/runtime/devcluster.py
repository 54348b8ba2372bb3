"""The port to a dev cluster: a namespace there for each workspace, and short-lived access to it for each run.

Every operation may be repeated, at any time and by several processes at once, and none waits for the cluster to get
anything done. What does not belong to this installation is neither used nor changed.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol


@dataclasses.dataclass(frozen=True, slots=True)
class Terms:
    """What a workspace has to know to speak to the cluster. Holds no secret.

    Attributes:
        server: the API server's address, as workspaces reach it.
        certificate_authority: certificates in PEM; empty where the server's is publicly trusted.
        namespace: the workspace's own.
    """

    server: str
    certificate_authority: str
    namespace: str


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """A bearer token for one run of one workspace; `seconds` is how long it is good for, from when it was made."""

    text: str = dataclasses.field(repr=False)
    seconds: int


@dataclasses.dataclass(frozen=True, slots=True)
class Grant:
    """A run of a workspace that has, or may get, tokens."""

    workspace: str
    run: int


class DevCluster(Protocol):
    """Where workspaces may try out what they build. Raises `kernel.errors` and nothing else."""

    def terms(self, name: str) -> Terms:
        """What the workspace is told. Asks nobody."""
        ...

    def issue_token(self, name: str, run: int) -> Token:
        """A token for this run. The namespace and all that belongs to it are made where they are missing."""
        ...

    def revoke(self, name: str, *, through: int) -> None:
        """End the access of this run and of all before it, whatever tokens there are. What was made there stays."""
        ...

    def destroy(self, name: str) -> None:
        """Delete the namespace with all that is in it."""
        ...

    def grants(self) -> list[Grant]:
        """Every run of any workspace whose access has not been ended."""
        ...

    def namespaces(self) -> list[str]:
        """The workspaces that have a namespace."""
        ...
