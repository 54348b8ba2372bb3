"""The fleet's part inside Django: `python -m bench.lib_fleet_data times | seed COUNT`, JSON on stdout.

`times` tells of each workspace when it was asked for and when it was running, in seconds since the epoch, and counts
those that failed or were started again. `seed` adds workspaces that run already.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django.utils import timezone  # noqa: E402 - Django comes first.

from accounts.models import User  # noqa: E402
from workspaces.models import Event, Repository, Workspace  # noqa: E402
from workspaces.states import State  # noqa: E402

_BATCH = 2000


def times() -> dict[str, Any]:
    """What became of the starts."""
    running = Event.objects.filter(kind="state", target=State.RUNNING.value).values_list("workspace_id", "created_at")
    asked = dict(Workspace.objects.values_list("pk", "slug"))
    created = dict(Workspace.objects.values_list("pk", "created_at"))
    return {
        "starts": {asked[pk]: [created[pk].timestamp(), at.timestamp()] for pk, at in running},
        "failed": Event.objects.filter(kind="state", target=State.FAILED.value).count(),
        "again": Event.objects.filter(kind="state", reason="interrupted").count(),
        "states": {
            state: Workspace.objects.filter(state=state).count() for state in ("pending", "starting", "running")
        },
    }


def seed(count: int) -> int:
    """Workspaces that run, as far as the database knows; their slugs are `rest-00000` and so on."""
    now, owner, repository = timezone.now(), User.objects.get(username="admin"), Repository.objects.earliest("pk")
    rows = [
        Workspace(
            id=uuid.uuid4(), slug=f"rest-{number:05d}", name=f"rest {number}", owner=owner, repository=repository,
            ref="refs/heads/main", branch="main", state=State.RUNNING.value, desired="running", run=1, launched_run=1,
            upstream={"ide": "tcp://10.250.0.1:7411", "ports": "tcp://10.250.0.1:7411"}, wanted_at=now, progress_at=now,
            started_at=now, last_activity_at=now, look_again_at=None,
        )
        for number in range(count)
    ]  # fmt: skip
    Workspace.objects.bulk_create(rows, batch_size=_BATCH)
    return len(rows)


if __name__ == "__main__":
    print(json.dumps(seed(int(sys.argv[2])) if sys.argv[1] == "seed" else times()))
