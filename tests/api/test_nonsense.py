"""100 KB of nonsense at every address, and a database that is locked: a clear refusal, never a stack trace."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from django.test import Client

from accounts.models import User
from tests.api.conftest import LIST, Api, problem_of
from tests.support import git_repos
from workspaces.models import Event, Workspace
from workspaces.services import run_secrets

Factory = Callable[..., Workspace]
pytestmark = pytest.mark.django_db
BIG = 100_000


def _fill(text: str) -> bytes:
    return (text * (BIG // len(text) + 1)).encode()[:BIG]


NONSENSE: dict[str, bytes] = {
    "empty": b"",
    "letters": _fill("x"),
    "null": b"null",
    "number": b"17",
    "text": b'"text"',
    "array": b"[]",
    "array of objects": json.dumps([{"repo": "a/b"}] * 6000).encode(),
    "deep arrays": b"[" * BIG,
    "deep arrays below the limit": b"[" * 60_000,
    "deep objects": _fill('{"a":'),
    "deep, and closed": b'{"repo":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "invalid UTF-8": b'{"repo": "\xff\xfe"}',
    "half a character": b'{"repo": "\\ud800", "name": "\\udfff", "slug": "\\ud800", "code": "\\ud800"}',
    "NUL": b'{"repo": "a\\u0000b", "name": "\\u0000", "slug": "\\u0000"}',
    "raw NULs": b"\0" * BIG,
    "huge integer": b'{"repo": ' + b"9" * 60_000 + b"}",
    "huge float": b'{"repo": 1e999, "name": -1e999, "port": 1e999, "slug": "a"}',
    "not a number": b'{"repo": NaN, "name": Infinity}',
    "wrong types": b'{"repo": {"a": []}, "name": [1], "branch": {}, "slug": [], "conditions": {}, "git": 7}',
    "true": b'{"repo": true, "name": false, "slug": true, "code": true, "label": true, "nonce": true}',
    "long text": b'{"repo": "' + b"a" * 60_000 + b'"}',
    "100 KB of text": b'{"repo": "' + b"a" * BIG + b'", "name": "' + b"a" * 100 + b'"}',
    "many keys": json.dumps({f"k{number}": number for number in range(4000)}).encode(),
    "the same key": b"{" + b'"repo": "x",' * 4000 + b'"repo": 1}',
    "byte order mark": b'\xef\xbb\xbf{"repo": "a/b"}',
    "UTF-16": '{"repo": "a/b"}'.encode("utf-16"),
}


@pytest.fixture
def workspace(owner: User, workspace_factory: Factory) -> Workspace:
    return workspace_factory(owner, state="starting", run=1, launched_run=1)


@pytest.mark.parametrize("payload", NONSENSE.values(), ids=NONSENSE)
def test_what_takes_a_body_refuses_nonsense(api: Api, workspace: Workspace, payload: bytes) -> None:
    agent = Api({"Authorization": f"Bearer {run_secrets.run_token(workspace.pk, 1)}"})
    gateway = Api({"X-Slipway-Internal": settings.ENVIRONMENT.internal_secret})
    asked = {
        "create": api("POST", body=payload),
        "rename": api("PATCH", str(workspace.pk), payload),
        "report": agent("POST", "/internal/agent/report", payload),
        "credential": agent("POST", "/internal/agent/credential", payload),
        "redeem": gateway("POST", "/internal/redeem", payload),
    }
    for answer in asked.values():
        problem_of(answer, answer.status_code)
        assert 400 <= answer.status_code < 500
    answer = gateway("POST", "/internal/authorize", payload)
    assert answer.status_code < 500
    if answer.status_code == 200:
        assert answer.json()["decision"] == "sign_in"
    assert Workspace.objects.count() == 1
    assert Event.objects.count() == 0


@pytest.mark.parametrize("payload", NONSENSE.values(), ids=NONSENSE)
def test_what_takes_no_body_does_not_stumble_over_one(api: Api, workspace: Workspace, payload: bytes) -> None:
    for method, path in [
        ("POST", f"{workspace.pk}/start"),
        ("POST", f"{workspace.pk}/restore"),
        ("GET", f"{workspace.pk}/events"),
        ("GET", f"{workspace.pk}/logs"),
        ("GET", "/api/v1/me"),
        ("GET", "/api/v1/repositories/suggestions"),
        ("POST", "/api/v1/repositories/branches"),
        ("GET", "/api/v1/repositories/branches"),
    ]:
        assert api(method, path, payload).status_code < 500, path


def test_more_than_64_kib_is_named(api: Api) -> None:
    assert "64 KiB" in problem_of(api("POST", body=b" " * BIG + b"{}"), 413, "too_large")["detail"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x"])
def test_other_kinds_of_content_are_refused(api: Api, kind: str) -> None:
    answer = api.client.generic("POST", LIST, b"{}", content_type=kind, headers=api.headers)
    problem_of(answer, 415)


@pytest.mark.parametrize("charset", ["utf-16", "zlib", "rot13", "latin-1", "nonsense"])
def test_a_strange_charset_does_no_harm(api: Api, charset: str) -> None:
    kind = f"application/json; charset={charset}"
    answer = api.client.generic("POST", LIST, b'{"repo": "x"}', content_type=kind, headers=api.headers)
    problem_of(answer, 400)


HOSTILE = [
    "",
    " ",
    "name with spaces",
    "a b/c d",
    "'quoted'/\"name\"",
    "🚀/🚀",
    "-leading/dash",
    "--upload-pack=touch /tmp/x",
    "owner/-dash",
    "ext::sh -c id",
    "ext::sh%20-c%20id",
    "fd::17/foo",
    "file::/etc",
    "transport::address",
    "javascript:alert(1)",
    "ftp://example.com/a.git",
    "https://user:secret@example.com/a.git",
    "https://exa mple.com/a.git",
    "ssh://-oProxyCommand=id/x",
    "git@-oProxyCommand=id:x",
    "../../etc/passwd",
    "https://169.254.169.254/latest/meta-data",
    "a/b/c/d",
    "\u202egit/evil",
]


@pytest.mark.parametrize("repo", HOSTILE)
def test_hostile_names_are_refused_with_what_to_do(api: Api, repo: str) -> None:
    answer = api("POST", body={"repo": repo})
    problem = problem_of(answer, answer.status_code)
    assert answer.status_code in {400, 403, 422}
    assert problem["next_step"]
    assert "secret" not in str(problem)
    answer = api.client.get("/api/v1/repositories/branches", {"repo": repo}, headers=api.headers)
    assert answer.status_code in {400, 403, 422}
    assert not Workspace.objects.exists()


@pytest.mark.parametrize("branch", ["a b", "-x", "a..b", "refs/../x", "a\x00b", "🚀 x", "x" * 401, "@{u}", "a.lock"])
def test_hostile_branches_are_refused(api: Api, origin: git_repos.Repository, branch: str) -> None:
    answer = api("POST", body={"repo": origin.url, "branch": branch})
    assert problem_of(answer, 400)["field"] == "branch"


def test_a_branch_that_is_not_there_is_named_with_what_is_like_it(api: Api, origin: git_repos.Repository) -> None:
    problem = problem_of(api("POST", body={"repo": origin.url, "branch": "nxt"}), 404, "branch_not_found")
    assert "next" in problem["next_step"]
    assert problem["field"] == "branch"


def test_a_repository_that_is_not_there(api: Api, origin: git_repos.Repository) -> None:
    answer = api("POST", body={"repo": origin.url + "-not"})
    assert problem_of(answer, answer.status_code)["next_step"]
    assert answer.status_code in {404, 422}


def test_a_repository_whose_server_is_away(api: Api) -> None:
    answer = api("POST", body={"repo": "http://127.0.0.1:9/team/app.git"})
    problem = problem_of(answer, answer.status_code)
    assert answer.status_code == 503, problem
    assert problem["responsible"] == "cluster"
    assert problem["next_step"]


def test_an_empty_repository(api: Api, tmp_path: Any) -> None:
    empty = git_repos.create(tmp_path / "empty.git", None, branches={})
    problem_of(api("POST", body={"repo": empty.url}), 422, "repository_empty")


def test_a_repository_with_a_very_long_path(api: Api, tmp_path: Any) -> None:
    deep = tmp_path.joinpath(*["d" * 100] * 3)
    long = git_repos.create(deep / "app.git", {"a": "b"}, branches={})
    assert api("POST", body={"repo": long.url}).status_code in {201, 400}
    deeper = deep.joinpath(*["e" * 100] * 3)
    longer = git_repos.create(deeper / "app.git", {"a": "b"}, branches={})
    problem_of(api("POST", body={"repo": longer.url}), 400, "repository_name_too_long")


@pytest.mark.parametrize("query", ["%00", "%ff", "a%00b", "x" * 5000, "'; drop table", "%F0%9F%9A%80", "%"])
def test_suggestions_for_anything(api: Api, query: str) -> None:
    answer = api("GET", f"/api/v1/repositories/suggestions?query={query[:900]}")
    assert answer.status_code == 200


@contextmanager
def _locked() -> Iterator[None]:
    """Somebody else writes, and does not end."""
    database = connection.settings_dict
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA busy_timeout = 50")
            other: Any = sqlite3.connect(database["NAME"], isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")
        else:
            cursor.execute("SET lock_timeout = '50ms'")
            other = psycopg.connect(
                host=database["HOST"], user=database["USER"], dbname=database["NAME"], autocommit=False
            )
            other.execute("LOCK TABLE workspaces_workspace, accounts_user IN ACCESS EXCLUSIVE MODE")
    try:
        yield
    finally:
        other.close()
        if connection.vendor == "postgresql":
            # The connection goes back to its pool, and to other tests.
            with connection.cursor() as cursor:
                cursor.execute("RESET lock_timeout")


@pytest.mark.django_db(transaction=True)
def test_a_locked_database_is_a_pause_and_leaves_nothing_half_written(
    owner: User, bearer: Callable[..., dict[str, str]], workspace_factory: Factory, origin: git_repos.Repository
) -> None:
    workspace = workspace_factory(owner, state="stopped", desired="stopped")
    api = Api(bearer(owner))
    api("GET")
    with _locked():
        for method, path, body in [
            ("POST", "", {"repo": origin.url}),
            ("POST", f"{workspace.pk}/start", None),
            ("PATCH", f"{workspace.pk}", {"name": "new"}),
            ("DELETE", f"{workspace.pk}", None),
        ]:
            answer = api(method, path, body)
            problem = problem_of(answer, 503, "database_busy")
            assert problem["temporary"] is True
            assert int(answer["Retry-After"]) >= 1
    row = Workspace.objects.get()
    assert (row.name, row.generation, row.desired) == (workspace.name, 1, "stopped")
    assert not Event.objects.exists()
    assert api("POST", f"{workspace.pk}/start").status_code == 202
    connection.close()


@pytest.mark.django_db(transaction=True)
def test_a_report_to_a_locked_database_can_be_sent_again(owner: User, workspace_factory: Factory) -> None:
    workspace = workspace_factory(owner, state="starting", run=1)
    agent = Api({"Authorization": f"Bearer {run_secrets.run_token(workspace.pk, 1)}"})
    body = {"conditions": [{"type": "content", "status": "done"}]}
    with _locked():
        problem_of(agent("POST", "/internal/agent/report", body), 503, "database_busy")
    assert agent("POST", "/internal/agent/report", body).status_code == 200
    assert workspace.conditions.count() == 1
    connection.close()


def test_strange_tokens_are_only_not_valid(owner: User, workspace_factory: Factory) -> None:
    for token in ("slp_" + "a" * 32 + "\xe9" * 6, "slp_", "\xff" * 5000, "slp_" + "a" * 38, "a b c", ""):
        answer = Client().get(LIST, headers={"Authorization": f"Bearer {token}"})
        problem_of(answer, 401, "unauthenticated")
