"""`python -m tests.portal.stage WHAT`: sets the stage for a browser, in the data folder that the environment names.

A program of its own, because what it writes must be seen by a server in another process.
"""

from __future__ import annotations

import sys
from typing import Any

import django

SLUG = "rocket-bcdfg"


def rows() -> None:
    """A person with a stopped workspace, and nothing else."""
    from django.utils import timezone  # noqa: PLC0415 - Only importable once Django is set up.

    from accounts.models import User  # noqa: PLC0415
    from workspaces.models import Repository, Workspace  # noqa: PLC0415
    from workspaces.services.runtimes import runtime  # noqa: PLC0415

    runtime().destroy_run(SLUG)
    for model in (Workspace, Repository, User):
        model.objects.all().delete()
    owner = User.objects.create_user("owner", password="owner has a long password")
    now = timezone.now()
    repository = Repository.objects.create(
        provider="git",
        full_name=f"acme/rocket-{'long-' * 20}name",
        clone_url="https://git.example.com/acme/rocket.git",
        fetched_at=now,
    )
    Workspace.objects.create(
        owner=owner, repository=repository, slug=SLUG, name="<b>Rocket</b>", ref="refs/heads/main", branch="main" * 20,
        state="stopped", desired="stopped", reason="user", wanted_at=now, progress_at=now,
    )  # fmt: skip


def move(target: str, **fields: Any) -> None:
    """Bring the workspace to a state."""
    from django.utils import timezone  # noqa: PLC0415

    from workspaces.models import Workspace  # noqa: PLC0415
    from workspaces.services import conditions  # noqa: PLC0415
    from workspaces.services.runtimes import run_spec, runtime  # noqa: PLC0415
    from workspaces.services.transition import transition  # noqa: PLC0415
    from workspaces.states import ConditionStatus, ConditionType, Reason, State  # noqa: PLC0415

    now = timezone.now()
    workspace = Workspace.objects.get(slug=SLUG)
    if target == "starting":
        # Only what is wanted is started.
        fields["desired"] = "running"
    assert transition(workspace, State(target), now=now, reason=Reason.USER, **fields)
    if target == "starting":
        runtime().ensure_volume(SLUG)
        runtime().ensure_run(run_spec(workspace))
        conditions.put(
            workspace, ConditionType.CONTENT, ConditionStatus.RUNNING, now=now, message="Cloning acme/rocket"
        )


if __name__ == "__main__":
    django.setup()
    if sys.argv[1] == "rows":
        rows()
    elif sys.argv[1] == "failed":
        move("failed", failure={"code": "x", "text": "The disk is full.", "next_step": "Make room.", "generation": 2})
    else:
        move(sys.argv[1])
