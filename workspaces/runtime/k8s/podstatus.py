"""Reads single facts out of a pod's status. Pure; whatever is missing there is empty here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from workspaces.runtime.k8s.names import CONTAINER

Object = dict[str, Any]


def condition(status: Object, kind: str) -> Object:
    """One of the pod's conditions."""
    return next((one for one in status.get("conditions", []) if one.get("type") == kind), {})


def containers(status: Object) -> list[Object]:
    """The state of each container, those that run first in order first."""
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def workspace(status: Object) -> Object:
    """The state of the container that is the workspace."""
    return next((one for one in status.get("containerStatuses", []) if one.get("name") == CONTAINER), {})


def state(container: Object, word: str) -> Object:
    """What is said of a container that is "waiting", "running" or "terminated"; empty when it is not."""
    return container.get("state", {}).get(word) or {}


def is_over(status: Object) -> bool:
    """Whether all containers have ended for good."""
    return status.get("phase") in {"Succeeded", "Failed"}


def time(text: str | None) -> datetime | None:
    """A time as the API server writes it (RFC 3339)."""
    return datetime.fromisoformat(text) if text else None
