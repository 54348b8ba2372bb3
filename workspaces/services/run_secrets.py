"""The secrets of one run of a workspace. They follow from the platform's own, so that nothing need be stored.

Each is made from its purpose too, so that none says anything about another.
"""

from __future__ import annotations

import hmac
import re
from uuid import UUID

from django.conf import settings

_TOKEN = re.compile(r"slr_(?P<id>[0-9a-f]{32})\.(?P<run>[0-9]{1,10})\.(?P<proof>[0-9a-f]{64})")


def run_token(workspace_id: UUID, run: int) -> str:
    """By which the agent of a run proves itself to the platform. Says itself whose it is."""
    return f"slr_{workspace_id.hex}.{run}.{_proof('run-token', workspace_id, run)}"


def run_of(token: str) -> tuple[UUID, int] | None:
    """The workspace and the run that a run's token speaks for; None when it is no token of ours."""
    found = _TOKEN.fullmatch(token)
    if found is None:
        return None
    workspace_id, run = UUID(found["id"]), int(found["run"])
    return (workspace_id, run) if hmac.compare_digest(_proof("run-token", workspace_id, run), found["proof"]) else None


def door_key(workspace_id: UUID, run: int) -> str:
    """By which the gateway proves itself to the agent of a run, where it reaches it over a network."""
    return f"sld_{_proof('door-key', workspace_id, run)}"


def _proof(purpose: str, workspace_id: UUID, run: int) -> str:
    message = f"{purpose}:{workspace_id.hex}:{run}"
    return hmac.new(settings.SECRET_KEY.encode(), message.encode(), "sha256").hexdigest()
