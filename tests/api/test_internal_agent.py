"""What agents send."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from kernel import redis
from tests.api.conftest import Api, problem_of
from workspaces.internal.agent import CLUSTER_CREDENTIALS_PER_MINUTE, REPORTS_PER_MINUTE
from workspaces.models import Condition, Event, Repository, Workspace
from workspaces.services import run_secrets

pytestmark = pytest.mark.django_db
GIT = {"branch": "main", "head": "b" * 40, "ahead": 0, "behind": 0, "uncommitted": 2, "unpushed": 1}


@pytest.fixture
def workspace(owner: User, workspace_factory: Callable[..., Workspace]) -> Workspace:
    long_ago = timezone.now() - timedelta(minutes=3)
    return workspace_factory(owner, state="starting", run=3, launched_run=3, progress_at=long_ago)


@pytest.fixture
def agent(workspace: Workspace) -> Api:
    return Api({"Authorization": f"Bearer {run_secrets.run_token(workspace.pk, 3)}"})


def document(**extra: Any) -> dict[str, Any]:
    steps = [{"type": "content", "status": "running", "message": "Cloning", "progress": 0.4, "started_ago": 1.5}]
    return {"workspace": "x", "run": 3, "sequence": 1, "conditions": steps, **extra}


def send(agent: Api, **extra: Any) -> Any:
    return agent("POST", "/internal/agent/report", document(**extra))


def test_a_report_becomes_rows(agent: Api, workspace: Workspace) -> None:
    answer = send(agent, git=GIT, ports=[5173, 3000])
    assert (answer.status_code, answer.json()) == (200, {"interval": 15})
    row = Condition.objects.get()
    assert (row.run, row.type, row.status, row.message, row.progress) == (3, "content", "running", "Cloning", 0.4)
    assert row.started_at is not None
    assert timedelta(seconds=1) < timezone.now() - row.started_at < timedelta(seconds=20)
    workspace.refresh_from_db()
    assert (workspace.git, workspace.ports) == (GIT, [3000, 5173])
    assert timezone.now() - workspace.progress_at < timedelta(minutes=1)


def test_a_report_that_says_nothing_new_writes_nothing(agent: Api, workspace: Workspace) -> None:
    notices = [{"id": "n1", "code": "ide_restarted", "message": "Restarted."}]
    send(agent, git=GIT, ports=[3000], notices=notices)
    with CaptureQueriesContext(connection) as queries:
        assert send(agent, git=GIT, ports=[3000], notices=notices, activity={"editor": 1.0}).status_code == 200
    assert {query["sql"].split()[0] for query in queries} == {"SELECT"}


def test_progress_is_written_once_a_second(agent: Api, workspace: Workspace) -> None:
    def progress(share: float, **extra: Any) -> float | None:
        step = {"type": "content", "status": "running", "message": "Cloning", "progress": share, **extra}
        assert send(agent, conditions=[step]).status_code == 200
        return Condition.objects.get().progress

    with time_machine.travel(timezone.now(), tick=False) as clock:
        assert [progress(share) for share in (0.1, 0.2, 0.3)] == [0.1, 0.1, 0.1]
        clock.shift(1.1)
        assert [progress(share) for share in (0.4, 0.5)] == [0.4, 0.4]
        assert progress(0.6, message="Resolving") == 0.6
        assert progress(1.0, status="done") == 1.0
        Workspace.objects.update(state="running")
        commands = {"type": "commands", "status": "running"}
        send(agent, conditions=[{**commands, "progress": 0.1}])
        clock.shift(1.1)
        send(agent, conditions=[{**commands, "progress": 0.2}])
        send(agent, conditions=[{**commands, "progress": 0.3}])
        assert Condition.objects.get(type="commands").progress == 0.2


def test_a_run_that_reports_in_a_loop_is_slowed_down(agent: Api, workspace: Workspace) -> None:
    with time_machine.travel(timezone.now(), tick=False) as clock:
        for number in range(REPORTS_PER_MINUTE):
            assert send(agent, git={**GIT, "ahead": number}).status_code == 200
        answer = send(agent, git=GIT)
        problem_of(answer, 429, "throttled")
        assert 1 <= int(answer["Retry-After"]) <= 60
        workspace.refresh_from_db()
        assert workspace.git["ahead"] == REPORTS_PER_MINUTE - 1
        # Another run is another matter, and a minute later all is well.
        Workspace.objects.update(run=4)
        other = Api({"Authorization": f"Bearer {run_secrets.run_token(workspace.pk, 4)}"})
        assert send(other).status_code == 200
        Workspace.objects.update(run=3)
        clock.shift(61)
        assert send(agent).status_code == 200


def test_a_step_that_changes_is_history(agent: Api, workspace: Workspace) -> None:
    send(agent)
    send(agent, conditions=[{"type": "content", "status": "running", "progress": 0.8}])
    send(agent, conditions=[{"type": "content", "status": "done"}])
    told = list(Event.objects.filter(kind="condition").values_list("source", "target"))
    assert told == [("content", "running"), ("content", "done")]
    row = Condition.objects.get()
    assert row.started_at is not None
    assert row.finished_at is not None
    assert row.started_at < row.finished_at


def test_a_notice_is_told_once(agent: Api, workspace: Workspace) -> None:
    notice = {"id": "n1", "code": "ide_restarted", "message": "The editor was restarted."}
    for _ in range(3):
        send(agent, notices=[notice])
    send(agent, notices=[notice, {**notice, "id": "n2"}])
    assert list(Event.objects.filter(kind="notice").values_list("data__id", flat=True)) == ["n1", "n2"]


def test_the_operators_steps_are_not_the_agents(agent: Api, workspace: Workspace) -> None:
    assert send(agent, conditions=[{"type": "container", "status": "failed"}]).status_code == 200
    assert not Condition.objects.exists()


def test_activity_goes_to_redis_and_never_back(agent: Api, workspace: Workspace) -> None:
    def score() -> float:
        return float(redis.client().zscore(redis.ACTIVITY, str(workspace.pk)) or 0)

    now = timezone.now().timestamp()
    send(agent, activity={"editor": 20.0, "terminal": 5.0, "processes": None, "ports": None})
    first = score()
    assert abs(first - (now - 5)) < 60
    send(agent, activity={"editor": 100.0})
    assert score() == first
    send(agent, activity={"editor": None})
    assert score() == first


@pytest.mark.parametrize("token", ["", "nonsense", "slr_" + "0" * 32 + ".3." + "0" * 64, "é"])
def test_a_token_that_is_none(workspace: Workspace, token: str) -> None:
    problem_of(send(Api({"Authorization": f"Bearer {token}"})), 401, "run_unknown")


def test_a_token_of_another_kind_or_workspace(owner: User, workspace: Workspace, bearer: Any) -> None:
    problem_of(send(Api(bearer(owner))), 401)
    problem_of(send(Api({"X-Slipway-Internal": settings.ENVIRONMENT.internal_secret})), 401)
    problem_of(send(Api({"Authorization": f"Bearer {run_secrets.run_token(uuid4(), 3)}"})), 401)
    forged = run_secrets.run_token(workspace.pk, 2).replace(".2.", ".3.")
    problem_of(send(Api({"Authorization": f"Bearer {forged}"})), 401)


@pytest.mark.parametrize("run", [1, 2, 4])
def test_a_run_that_was_superseded_changes_nothing(workspace: Workspace, run: int) -> None:
    agent = Api({"Authorization": f"Bearer {run_secrets.run_token(workspace.pk, run)}"})
    problem_of(send(agent, git=GIT), 409, "run_superseded")
    problem_of(agent("POST", "/internal/agent/credential", {"protocol": "https", "host": "x", "path": "y"}), 409)
    assert not Condition.objects.exists()


BAD: list[dict[str, Any]] = [
    {"conditions": [{"type": "content", "status": "running", "progress": "nan"}]},
    {"conditions": [{"type": "content", "status": "running", "progress": 2}]},
    {"conditions": [{"type": "content", "status": "running", "started_ago": "nan"}]},
    {"conditions": [{"type": "content", "status": "running", "started_ago": 1e300}]},
    {"conditions": [{"type": "content", "status": "happy"}]},
    {"conditions": [{"type": "content", "status": "done", "message": "\x00"}]},
    {"conditions": [{"type": "content", "status": "done", "message": "\ud800"}]},
    {"conditions": [{"type": "content", "status": "done", "message": "x" * 2001}]},
    {"conditions": [{"type": "content", "status": "done"}] * 17},
    {"activity": {"editor": "nan"}},
    {"activity": {"editor": "inf"}},
    {"activity": {"editor": -1}},
    {"git": {**GIT, "ahead": -1}},
    {"git": {**GIT, "branch": "\x00"}},
    {"ports": [0]},
    {"ports": [65536]},
    {"ports": list(range(1, 100))},
    {"notices": [{"id": "", "code": "x", "message": "x"}]},
]


@pytest.mark.parametrize("bad", BAD)
def test_a_report_that_makes_no_sense(agent: Api, workspace: Workspace, bad: dict[str, Any]) -> None:
    problem_of(send(agent, **bad), 400, "invalid_request")
    assert not Condition.objects.exists()
    assert not redis.client().exists(redis.ACTIVITY)


def test_a_credential_only_for_the_own_repository(agent: Api, workspace: Workspace, settings: Any) -> None:
    question = {"protocol": "https", "host": "git.example.com", "path": "acme/rocket.git"}
    answer = agent("POST", "/internal/agent/credential", question)
    problem_of(answer, 404, "credential_unknown")


@pytest.fixture
def with_token(settings: Any, workspace: Workspace) -> None:
    """The platform has a token for GitHub, and the workspace is of a repository there."""
    import dataclasses  # noqa: PLC0415

    from workspaces.services.repositories import providers  # noqa: PLC0415

    settings.ENVIRONMENT = dataclasses.replace(settings.ENVIRONMENT, github_token="ghp_secret")
    providers.cache_clear()
    Repository.objects.update(provider="github", clone_url="https://github.com/acme/rocket.git")


OWN = {"protocol": "https", "host": "github.com", "path": "acme/rocket.git"}


@pytest.mark.parametrize("change", [{}, {"path": "acme/rocket"}, {"path": "/ACME/Rocket.git"}, {"host": "GitHub.com"}])
def test_the_own_repositorys_credential(agent: Api, with_token: None, change: dict[str, str]) -> None:
    answer = agent("POST", "/internal/agent/credential", {**OWN, **change})
    assert answer.status_code == 200
    assert answer.json()["password"] == "ghp_secret"
    assert set(answer.json()) == {"username", "password"}


@pytest.mark.parametrize(
    "change",
    [
        {"path": "acme/other.git"},
        {"path": ""},
        {"path": "acme/rocket.git/../other.git"},
        {"path": "acme/rocket.git.git"},
        {"host": "github.com.evil.example"},
        {"host": "github.com:8443"},
        {"host": "user@github.com"},
        {"protocol": "http"},
    ],
)
def test_no_other_repositorys_credential(agent: Api, with_token: None, change: dict[str, str]) -> None:
    problem_of(agent("POST", "/internal/agent/credential", {**OWN, **change}), 404, "credential_unknown")


CLUSTER = "/internal/agent/kubernetes-credential"


def test_no_dev_cluster_no_credential(agent: Api, workspace: Workspace) -> None:
    problem_of(agent("POST", CLUSTER, {}), 404, "dev_cluster_none")


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"\xff"])
def test_a_question_for_the_dev_cluster_that_makes_no_sense(agent: Api, workspace: Workspace, body: bytes) -> None:
    problem_of(agent("POST", CLUSTER, body), 400)
    assert agent("GET", CLUSTER).status_code == 405


def test_who_gets_no_credential_for_the_dev_cluster(owner: User, workspace: Workspace, bearer: Any) -> None:
    def ask(token: str) -> Any:
        return Api({"Authorization": f"Bearer {token}"})("POST", CLUSTER, {})

    problem_of(ask("nonsense"), 401, "run_unknown")
    problem_of(ask(run_secrets.run_token(uuid4(), 3)), 401, "run_unknown")
    problem_of(Api(bearer(owner))("POST", CLUSTER, {}), 401)
    problem_of(ask(run_secrets.run_token(workspace.pk, 2)), 409, "run_superseded")
    Workspace.objects.update(state="stopped")
    problem_of(ask(run_secrets.run_token(workspace.pk, 3)), 409, "run_superseded")


def test_a_run_that_asks_the_dev_cluster_in_a_loop_is_slowed_down(agent: Api, workspace: Workspace) -> None:
    with time_machine.travel(timezone.now(), tick=False) as clock:
        for _ in range(CLUSTER_CREDENTIALS_PER_MINUTE):
            problem_of(agent("POST", CLUSTER, {}), 404)
        answer = agent("POST", CLUSTER, {})
        problem_of(answer, 429, "throttled")
        assert 1 <= int(answer["Retry-After"]) <= 60
        assert send(agent).status_code == 200
        clock.shift(61)
        problem_of(agent("POST", CLUSTER, {}), 404)
