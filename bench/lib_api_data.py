"""The API benchmark's part inside Django: `python -m bench.lib_api_data seed|queries …`, JSON on stdout.

`seed ROWS` fills the database: one owner with ROWS workspaces, one with 10, and ROWS more in fifties; prints what the
load needs to know of them. `queries` counts the SQL statements of each request, for the small and the big owner.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django.core.management import call_command  # noqa: E402 - Django comes first.
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402
from django.utils import timezone  # noqa: E402

from accounts.models import User  # noqa: E402
from accounts.services.tokens import create_token  # noqa: E402
from workspaces.models import Condition, Event, Repository, Workspace  # noqa: E402
from workspaces.states import ConditionStatus, ConditionType, EventKind, State  # noqa: E402

BATCH = 2000
FEW = 10
FIFTY = 50
NOW = timezone.now()
# Of twenty workspaces: how many stand in which state.
MIX = (State.RUNNING,) * 8 + (State.STOPPED,) * 9 + (State.FAILED, State.DELETED, State.STARTING)


def seed(count: int) -> dict[str, Any]:
    """Fill an empty database."""
    call_command("migrate", interactive=False, verbosity=0)
    repositories = [_repository(number) for number in range(40)]
    Repository.objects.bulk_create(repositories)
    shares = {"big": count, "few": FEW, **{f"many{number}": FIFTY for number in range(count // FIFTY)}}
    owners = User.objects.bulk_create([User(username=name) for name in shares])
    found: dict[str, Any] = {}
    for owner in owners:
        rows = [_workspace(owner, repositories, number) for number in range(shares[owner.username])]
        _insert(rows)
        _, token = create_token(user=owner, name="bench", scopes=["workspaces"], life=datetime.timedelta(1), now=NOW)
        found[owner.username] = {"token": token, "workspaces": [[str(row.pk), row.state] for row in rows]}
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return found


def _repository(number: int) -> Repository:
    name = f"team{number}/app{number}"
    return Repository(
        provider="github", external_id=f"x{number}", full_name=name, clone_url=f"https://example.com/{name}.git",
        web_url=f"https://example.com/{name}", default_branch="main", visibility="public", head_commit="a" * 40,
        description="An application of ours, with a description of a usual length.", size_kb=10_000,
        languages={"Python": 120_000, "TypeScript": 80_000, "Shell": 900}, fetched_at=NOW,
    )  # fmt: skip


def _workspace(owner: User, repositories: list[Repository], number: int) -> Workspace:
    state = MIX[number % len(MIX)]
    wanted = {State.STOPPED: "stopped", State.DELETED: "deleted"}.get(state, "running")
    failure = {"code": "start_timeout", "text": "Made no progress.", "next_step": "Again.", "responsible": "cluster"}
    then = NOW - datetime.timedelta(minutes=number)
    return Workspace(
        id=uuid.uuid4(), slug=f"app-{owner.pk}-{number}", name=f"app {number}", owner=owner, branch="main",
        repository=repositories[number % len(repositories)], ref="refs/heads/main", commit="b" * 40,
        state=state.value, desired=wanted, run=1, launched_run=1, failure=failure if state is State.FAILED else {},
        upstream={"ide": "unix:/run/ide.sock", "ports": "unix:/run/ports"}, ports=[3000],
        git={"branch": "main", "head": "b" * 40, "ahead": 0, "behind": 0, "uncommitted": 2, "unpushed": 0},
        wanted_at=then, progress_at=then, started_at=then, created_at=then, last_activity_at=then,
    )  # fmt: skip


def _insert(rows: list[Workspace]) -> None:
    """With the steps of a start and a history, as real ones have."""
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        Workspace.objects.bulk_create(part)
        Condition.objects.bulk_create([step for row in part for step in _steps(row)])
        Event.objects.bulk_create([event for row in part for event in _history(row)])


def _steps(row: Workspace) -> Iterator[Condition]:
    for kind in ConditionType:
        yield Condition(
            workspace=row, run=1, type=kind.value, status=ConditionStatus.DONE.value, message=f"Step {kind} is done",
            started_at=row.wanted_at, finished_at=row.wanted_at,
        )  # fmt: skip


def _history(row: Workspace) -> Iterator[Event]:
    for target in ("pending", "starting", "running", "stopping", "stopped", "starting", "running", row.state):
        yield Event(workspace=row, kind=EventKind.STATE.value, target=target, reason="user", generation=1)


def queries(seeded: dict[str, Any]) -> dict[str, dict[str, int]]:
    """SQL statements per request, authentication included: {request: {owner: number}}."""
    found: dict[str, dict[str, int]] = {}
    for owner in ("few", "big"):
        token, workspaces = seeded[owner]["token"], seeded[owner]["workspaces"]
        first = {state: pk for pk, state in reversed(workspaces)}
        base = "/api/v1/workspaces"
        asked = {
            "list": ("GET", base),
            "list, 200 per page": ("GET", f"{base}?limit=200"),
            "list, one state": ("GET", f"{base}?state=running"),
            "detail": ("GET", f"{base}/{first['running']}"),
            "events": ("GET", f"{base}/{first['running']}/events"),
            "stop": ("POST", f"{base}/{first['running']}/stop"),
            "start": ("POST", f"{base}/{first['stopped']}/start"),
        }
        client = Client(headers={"Authorization": f"Bearer {token}"})
        client.get(base)  # Notes the token's use, which is written once a minute.
        for name, (method, path) in asked.items():
            found.setdefault(name, {})[owner] = _count(client, method, path)
    return found


def _count(client: Client, method: str, path: str) -> int:
    with CaptureQueriesContext(connection) as seen:
        answer = client.generic(method, path)
    if answer.status_code >= 300:
        raise RuntimeError(f"{method} {path} answered {answer.status_code}: {answer.content[:300]!r}")
    verbs = ("SELECT", "INSERT", "UPDATE", "DELETE")
    return sum(query["sql"].lstrip("( ").upper().startswith(verbs) for query in seen.captured_queries)


if __name__ == "__main__":
    answered = seed(int(sys.argv[2])) if sys.argv[1] == "seed" else queries(json.load(sys.stdin))
    print(json.dumps(answered))
