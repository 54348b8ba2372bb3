"""Creating, listing, changing and wanting, as programs do it."""

from __future__ import annotations

import dataclasses
from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from tests.api.conftest import LIST, Api, problem_of
from tests.services.stage import together
from tests.support import git_repos
from workspaces.models import Condition, Event, Repository, Workspace
from workspaces.services.runtimes import run_spec, runtime

Factory = Callable[..., Workspace]
Bearer = Callable[..., dict[str, str]]
pytestmark = pytest.mark.django_db
# Cursors that hold times which in UTC lie outside of what a time can be.
OUTSIDE = [
    b64encode(urlencode({"p": time}).encode()).decode()
    for time in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00")
]


def test_create_answers_with_id_slug_state_and_url(api: Api, origin: git_repos.Repository) -> None:
    answer = api("POST", body={"repo": origin.url})
    assert answer.status_code == 201
    body = answer.json()
    assert str(UUID(body["id"])) == body["id"]
    assert body["slug"].startswith("rocket-")
    assert (body["state"], body["desired"]) == ("pending", "running")
    assert body["url"] == f"http://{body['slug']}.localhost:8000/"
    assert answer["Location"] == f"{LIST}/{body['id']}"
    assert api("GET", answer["Location"]).json() == body
    assert (body["branch"], body["commit"]) == ("main", origin.head())
    assert body["repository"]["default_branch"] == "main"
    assert [step["type"] for step in body["conditions"]] == ["queued"]


def test_create_on_a_branch_with_a_name(api: Api, origin: git_repos.Repository) -> None:
    body = api("POST", body={"repo": origin.url, "branch": "next", "name": "Große Änderung 🚀"}).json()
    assert (body["branch"], body["name"]) == ("next", "Große Änderung 🚀")
    assert body["slug"].startswith("groe-anderung-")


def test_the_same_key_gives_the_same_workspace(api: Api, origin: git_repos.Repository) -> None:
    first = api("POST", body={"repo": origin.url}, Idempotency_Key="k1")
    again = api("POST", body={"repo": origin.url}, Idempotency_Key="k1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json()["id"] == first.json()["id"]
    assert "Idempotent-Replay" not in first
    assert again["Idempotent-Replay"] == "true"
    assert Workspace.objects.count() == 1
    problem_of(
        api("POST", body={"repo": origin.url, "branch": "next"}, Idempotency_Key="k1"), 409, "idempotency_key_reused"
    )


@pytest.mark.parametrize("key", ["", "x" * 129, "a\tb"])
def test_a_key_must_be_a_key(api: Api, origin: git_repos.Repository, key: str) -> None:
    problem_of(api("POST", body={"repo": origin.url}, Idempotency_Key=key), 400, "idempotency_key_invalid")


def test_keys_are_each_callers_own(api: Api, member: User, bearer: Bearer, origin: git_repos.Repository) -> None:
    mine = api("POST", body={"repo": origin.url}, Idempotency_Key="k1").json()["id"]
    theirs = Api(bearer(member))("POST", body={"repo": origin.url}, Idempotency_Key="k1").json()["id"]
    assert mine != theirs


@pytest.mark.django_db(transaction=True)
def test_clicks_at_once_with_one_key_make_one_workspace(
    owner: User, bearer: Bearer, origin: git_repos.Repository
) -> None:
    headers = bearer(owner)

    def click() -> tuple[int, str]:
        answer = Api(headers)("POST", body={"repo": origin.url}, Idempotency_Key="one")
        return answer.status_code, answer.json().get("id")

    results = together([click] * 4)
    pk = str(Workspace.objects.get().pk)
    assert results == [(201, pk)] * 4
    assert Repository.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("round_", range(3))
def test_clicks_at_once_on_the_last_free_place_make_one_workspace(
    owner: User, bearer: Bearer, origin: git_repos.Repository, settings: Any, round_: int
) -> None:
    settings.ENVIRONMENT = dataclasses.replace(settings.ENVIRONMENT, max_workspaces=1)
    headers = bearer(owner)

    def click() -> int:
        answer = Api(headers)("POST", body={"repo": origin.url}, Idempotency_Key=f"one{round_}")
        return int(answer.status_code)

    assert together([click] * 4) == [201] * 4
    assert Workspace.objects.count() == 1


def test_a_person_has_a_limit_of_workspaces(
    api: Api, owner: User, origin: git_repos.Repository, workspace_factory: Factory, settings: Any
) -> None:
    limit = 3
    settings.ENVIRONMENT = dataclasses.replace(settings.ENVIRONMENT, max_workspaces=limit)
    for number in range(limit):
        workspace_factory(owner, slug=f"w{number}")
    problem = problem_of(api("POST", body={"repo": origin.url}), 429, "workspace_limit")
    assert str(limit) in problem["detail"]
    Workspace.objects.filter(slug="w0").update(state="deleted")
    assert api("POST", body={"repo": origin.url}).status_code == 201


def test_pages_go_on_where_the_last_one_ended(api: Api, owner: User, workspace_factory: Factory) -> None:
    for number in range(7):
        workspace_factory(owner, slug=f"w{number}")
    seen: list[str] = []
    path: str | None = f"{LIST}?limit=3"
    while path:
        page = api("GET", path).json()
        seen += [row["slug"] for row in page["results"]]
        parts = urlsplit(page["next"] or "")
        path = f"{parts.path}?{parts.query}" if page["next"] else None
        if len(seen) == 3:
            workspace_factory(owner, slug="newer")
            Workspace.objects.get(slug="w3").delete()
    assert seen == ["w6", "w5", "w4", "w2", "w1", "w0"]


def test_filters(api: Api, owner: User, workspace_factory: Factory) -> None:
    for state in ("running", "stopped", "deleted", "purged"):
        workspace_factory(owner, slug=state, state=state)

    def slugs(query: str) -> set[str]:
        return {row["slug"] for row in api("GET", f"{LIST}{query}").json()["results"]}

    assert slugs("") == {"running", "stopped"}
    assert slugs("?state=deleted") == {"deleted"}
    assert slugs("?state=running&state=deleted") == {"running", "deleted"}
    assert slugs("?state=purged") == set()
    assert problem_of(api("GET", f"{LIST}?state=happy"), 400, "state_unknown")["field"] == "state"


@pytest.mark.parametrize("cursor", ["x", "cD1ub3RhZGF0ZQ==", "bz0tMQ==", "cD0lMDA=", "cD0yMDI2LTEzLTAx", *OUTSIDE])
def test_a_cursor_must_be_one_of_ours(api: Api, owner: User, workspace_factory: Factory, cursor: str) -> None:
    workspace_factory(owner)
    problem_of(api("GET", f"{LIST}?cursor={quote(cursor)}"), 404)


@pytest.mark.parametrize("limit", ["0", "-1", "x", "9" * 400, "%00", ""])
def test_a_strange_limit_is_the_usual_one(api: Api, owner: User, workspace_factory: Factory, limit: str) -> None:
    workspace_factory(owner)
    assert len(api("GET", f"{LIST}?limit={limit}").json()["results"]) == 1


def test_the_verbs(api: Api, owner: User, workspace_factory: Factory) -> None:
    pk = workspace_factory(owner, state="running").pk
    wanted = [(api("POST", f"{pk}/{verb}").status_code, Workspace.objects.get().desired) for verb in ("stop", "start")]
    assert wanted == [(202, "stopped"), (202, "running")]
    assert api("POST", f"{pk}/restart").json()["reason"] == "restart"
    answer = api("DELETE", f"{pk}")
    assert (answer.status_code, answer.json()["desired"]) == (202, "deleted")
    problem_of(api("POST", f"{pk}/start"), 409, "workspace_deleting")
    Workspace.objects.update(state="deleted", purge_at=timezone.now() + timedelta(days=1))
    problem_of(api("POST", f"{pk}/start"), 409, "workspace_deleted")
    answer = api("POST", f"{pk}/restore")
    assert (answer.status_code, answer.json()["state"]) == (202, "stopped")
    again = api("POST", f"{pk}/restore")
    assert (again.status_code, again.json()["state"]) == (202, "stopped")


def test_rename(api: Api, owner: User, workspace_factory: Factory) -> None:
    workspace = workspace_factory(owner)
    body = api("PATCH", f"{workspace.pk}", {"name": '  A "quoted"  name  '}).json()
    assert (body["name"], body["slug"]) == ('A "quoted" name', workspace.slug)
    assert problem_of(api("PATCH", f"{workspace.pk}", {"name": "a\x1bb"}), 400)["field"] == "name"
    problem_of(api("PATCH", f"{workspace.pk}", {}), 400, "invalid_request")
    problem_of(api("PUT", f"{workspace.pk}", {"name": "x"}), 405)


def test_a_failure_is_told(api: Api, owner: User, workspace_factory: Factory) -> None:
    failure = {"generation": 1, "code": "oom_killed", "text": "T", "next_step": "N", "responsible": "user"}
    pk = workspace_factory(owner, state="failed", failure=failure).pk
    told = api("GET", f"{pk}").json()["failure"]
    assert told == {"code": "oom_killed", "text": "T", "next_step": "N", "responsible": "user"}


PATHS = ["", "/start", "/stop", "/restart", "/restore", "/events", "/logs"]


@pytest.mark.parametrize("path", PATHS)
def test_somebody_elses_workspace_is_not_there(
    api: Api, owner: User, outsider: User, member: User, bearer: Bearer, workspace_factory: Factory, path: str
) -> None:
    pk = workspace_factory(owner, state="stopped", desired="stopped").pk
    methods = {"": ["GET", "PATCH", "DELETE"], "/events": ["GET"], "/logs": ["GET"]}.get(path, ["POST"])
    for method in methods:
        for stranger in (outsider, member):
            answer = Api(bearer(stranger))(method, f"{pk}{path}", {"name": "mine"})
            theirs = problem_of(answer, 404, "workspace_not_found")
            nobodys = problem_of(api(method, f"{uuid4()}{path}", {"name": "mine"}), 404, "workspace_not_found")
            assert theirs["detail"] == nobodys["detail"]
    assert Workspace.objects.get().generation == 1
    assert Api(bearer(outsider))("GET").json()["results"] == []


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer slp_no"}, {"Authorization": "Basic eDp5"}])
def test_without_a_token_nothing_is_told(
    owner: User, workspace_factory: Factory, path: str, headers: dict[str, str]
) -> None:
    pk = workspace_factory(owner).pk
    method = "GET" if path in {"", "/events", "/logs"} else "POST"
    answer = Api(headers)(method, f"{pk}{path}")
    problem_of(answer, 401, "unauthenticated")
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_a_token_for_reading_cannot_write(
    owner: User, bearer: Bearer, workspace_factory: Factory, origin: git_repos.Repository
) -> None:
    pk = workspace_factory(owner, state="stopped", desired="stopped").pk
    reader = Api(bearer(owner, "read"))
    assert reader("GET", f"{pk}").status_code == 200
    assert reader("GET", f"{pk}/events").status_code == 200
    for method, path in [("PATCH", ""), ("DELETE", ""), ("POST", "/start"), ("POST", "/restart")]:
        problem_of(reader(method, f"{pk}{path}", {"name": "x"}), 403, "forbidden")
    problem_of(reader("POST", body={"repo": origin.url}), 403, "forbidden")
    assert Workspace.objects.get().generation == 1


def test_a_session_needs_csrf_and_a_token_does_not(owner: User, workspace_factory: Factory) -> None:
    pk = workspace_factory(owner, state="stopped", desired="stopped").pk
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(owner, backend="django.contrib.auth.backends.ModelBackend")
    assert browser.get(f"{LIST}/{pk}").status_code == 200
    problem_of(browser.post(f"{LIST}/{pk}/start"), 403, "forbidden")


@pytest.mark.parametrize("path", ["not-a-uuid", "00000000", "%00", "..%2f..", f"{'a' * 300}", "not-a-uuid/start"])
def test_what_is_no_id_is_not_found(api: Api, path: str) -> None:
    problem_of(api("GET", f"{LIST}/{path}"), 404)


def test_a_trailing_slash_is_another_address(api: Api) -> None:
    problem_of(api("GET", f"{LIST}/"), 404)


@pytest.mark.parametrize("many", [False, True])
def test_the_number_of_queries_does_not_depend_on_the_number_of_rows(
    api: Api, owner: User, workspace_factory: Factory, many: bool
) -> None:
    for number in range(20 if many else 1):
        workspace = workspace_factory(owner, slug=f"w{number}", run=1)
        for kind in ("queued", "volume", "content"):
            Condition.objects.create(workspace=workspace, run=1, type=kind, status="done")
        for _ in range(20 if many else 1):
            Event.objects.create(workspace=workspace, kind="notice", generation=1)
    pk = Workspace.objects.all()[0].pk
    api("GET")
    for path, most in [(LIST, 2), (f"{LIST}/{pk}", 3), (f"{LIST}/{pk}/events", 3)]:
        with CaptureQueriesContext(connection) as queries:
            assert api("GET", path).status_code == 200
        assert len(queries) == most, [query["sql"] for query in queries]


def test_a_new_workspace_is_few_statements(api: Api, origin: git_repos.Repository) -> None:
    api("POST", body={"repo": origin.url})
    with CaptureQueriesContext(connection) as queries:
        assert api("POST", body={"repo": origin.url}).status_code == 201
    # Those that only bracket others are the test's and the transaction's.
    kinds = [query["sql"].split()[0] for query in queries]
    asked = [kind for kind in kinds if kind in {"SELECT", "INSERT", "UPDATE", "DELETE"}]
    assert sorted(asked) == ["INSERT"] * 5 + ["SELECT"] * 6 + ["UPDATE"], [query["sql"] for query in queries]


@pytest.mark.parametrize(("verb", "state"), [("start", "stopped"), ("stop", "running")])
def test_an_intent_is_few_statements(api: Api, owner: User, workspace_factory: Factory, verb: str, state: str) -> None:
    pk = workspace_factory(owner, state=state, desired=state).pk
    api("GET")
    with CaptureQueriesContext(connection) as queries:
        assert api("POST", f"{pk}/{verb}").status_code == 202
    kinds = [query["sql"].split()[0] for query in queries]
    asked = [kind for kind in kinds if kind in {"SELECT", "INSERT", "UPDATE", "DELETE"}]
    assert sorted(asked) == ["INSERT"] * 2 + ["SELECT"] * 4 + ["UPDATE"], [query["sql"] for query in queries]


def test_logs(api: Api, owner: User, workspace_factory: Factory) -> None:
    workspace = workspace_factory(owner, slug=f"w{uuid4().hex[:8]}", run=1)
    runtime().ensure_volume(workspace.slug)
    runtime().ensure_run(run_spec(workspace))
    try:
        body = api("GET", f"{workspace.pk}/logs").json()
        assert body["run"] == 1
        assert [line["text"] for line in body["lines"]] == ["The fake runtime plays this run."]
        assert api("GET", f"{workspace.pk}/logs?source=clone").json()["lines"] == []
        assert api("GET", f"{workspace.pk}/logs?run=7").json() == {"run": 7, "lines": []}
        # The next run fails before it is launched: what the one before it wrote is not its log.
        Workspace.objects.update(run=2)
        assert api("GET", f"{workspace.pk}/logs").json() == {"run": 2, "lines": []}
        assert len(api("GET", f"{workspace.pk}/logs?run=1").json()["lines"]) == 1
        page = Client()
        page.force_login(owner, backend="django.contrib.auth.backends.ModelBackend")
        assert page.get(f"/workspaces/{workspace.slug}/log").content == b"Nothing was written yet."
    finally:
        runtime().destroy_run(workspace.slug)
        runtime().destroy_volume(workspace.slug)
    for run in (
        "-1",
        "x",
        "1e3",
        "9" * 30,
        "²",
        "%00",
        "0" * 5000,
        "0" * 5000 + "1",
        "0" * 11 + "9" * 11,
        "2147483648",
    ):
        problem_of(api("GET", f"{workspace.pk}/logs?run={run}"), 400, "number_invalid")


def test_events_go_on_after_the_last_one_known(api: Api, owner: User, workspace_factory: Factory) -> None:
    workspace = workspace_factory(owner, state="stopped", desired="stopped")
    api("POST", f"{workspace.pk}/start")
    api("POST", f"{workspace.pk}/stop")
    events = api("GET", f"{workspace.pk}/events").json()["events"]
    assert [event["target"] for event in events] == ["running", "stopped"]
    assert {event["actor"] for event in events} == {"owner"}
    later = api("GET", f"{workspace.pk}/events?after={events[0]['id']}").json()["events"]
    assert later == events[1:]
    for strange in ("x", "-1", "9" * 40, "²", "%00"):
        assert len(api("GET", f"{workspace.pk}/events?after={strange}").json()["events"]) == 2
