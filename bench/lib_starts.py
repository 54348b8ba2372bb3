"""What the benchmarks of starts share: the repository, waiting for a state, and opening the editor."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
from datetime import datetime
from typing import Any

from tests.support.git_http import GitServer
from tests.support.git_repos import Repository
from tests.support.platform import Platform

FILES = 200
FILE_BYTES = 50_000
COMMITS = 5
REPOSITORY_MB = round(FILES * FILE_BYTES / 1e6, 1)
_PATIENCE = 90.0
# In a sandbox and in a pod the home is here, so the folder that the editor opens is known.
_OPEN = "/?folder=/home/dev/app"


def repository(git: GitServer) -> Repository:
    """About 10 MB that do not compress, in 200 files, with some history."""
    chance = random.Random(1)
    names = [f"src/part{number % 20}/file{number}.bin" for number in range(FILES)]
    app = git.create_repository("team/app", {name: chance.randbytes(FILE_BYTES) for name in names})
    for _ in range(COMMITS - 1):
        app.commit({name: chance.randbytes(FILE_BYTES) for name in chance.sample(names, 5)})
    return app


def until(platform: Platform, workspace_id: str, state: str) -> dict[str, Any]:
    """The workspace as soon as it is in this state, from its stream of events: that is how the portal learns it."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", platform.port, timeout=_PATIENCE)) as connection:
        headers = {
            "Host": f"localhost:{platform.port}",
            "Authorization": f"Bearer {platform.token}",
            "Accept": "text/event-stream",
        }
        connection.request("GET", f"/api/v1/workspaces/{workspace_id}/events", headers=headers)
        for line in connection.getresponse():
            if not line.startswith(b'data: {"id": "'):
                continue
            workspace: dict[str, Any] = json.loads(line[6:])
            if workspace["state"] == "failed":
                raise RuntimeError(f"the workspace failed: {workspace['failure']}")
            if workspace["state"] == state:
                return workspace
    raise RuntimeError(f"the stream ended before the workspace was {state}")


def open_editor(platform: Platform, slug: str) -> None:
    """The editor's own page, through the gateway."""
    connection = http.client.HTTPConnection("127.0.0.1", platform.port, timeout=_PATIENCE)
    with contextlib.closing(connection):
        headers = {"Host": f"{slug}.localhost:{platform.port}", "Authorization": f"Bearer {platform.token}"}
        connection.request("GET", _OPEN, headers=headers)
        answer = connection.getresponse()
        page = answer.read()
    if answer.status != 200 or b"workbench" not in page:
        raise RuntimeError(f"the editor answered {answer.status}: {page[:200]!r}")


def seconds(text: str) -> float:
    """A time of the API's, since the epoch."""
    return datetime.fromisoformat(text).timestamp()
