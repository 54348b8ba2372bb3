"""Tokens by the API: made, shown once, bounded, ended."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from accounts.models import ApiToken, AuditEntry, User
from accounts.services import tokens
from tests.api.conftest import Api, problem_of

Bearer = Callable[..., dict[str, str]]
TOKENS = "/api/v1/tokens"


@pytest.fixture
def boss(owner: User, bearer: Bearer) -> Api:
    return Api(bearer(owner, "admin", "read"))


def test_a_token_is_shown_once_and_works(boss: Api) -> None:
    made = boss("POST", TOKENS, {"name": "ci", "scopes": ["read"], "days": 7}).json()
    assert made["secret"].startswith("slp_")
    used = Api({"Authorization": f"Bearer {made['secret']}"})
    assert used("GET", "/api/v1/me").json()["username"] == "owner"
    listed = boss("GET", TOKENS)
    assert made["secret"] not in listed.content.decode()
    row = next(token for token in listed.json()["tokens"] if token["id"] == made["id"])
    assert (row["name"], row["last_used_from"]) == ("ci", "127.0.0.1")
    assert not ApiToken.objects.filter(digest=made["secret"]).exists()


def test_a_revoked_token_is_none(boss: Api) -> None:
    made = boss("POST", TOKENS, {"name": "ci", "scopes": ["read"]}).json()
    used = Api({"Authorization": f"Bearer {made['secret']}"})
    for _ in range(2):
        assert boss("DELETE", f"{TOKENS}/{made['id']}").status_code == 204
    problem_of(used("GET", "/api/v1/me"), 401)
    actions = list(AuditEntry.objects.filter(object_id=str(made["id"])).values_list("action", "actor"))
    assert actions == [("token.create", "owner"), ("token.revoke", "owner")]


def test_a_token_makes_none_that_can_do_more(boss: Api) -> None:
    problem_of(boss("POST", TOKENS, {"name": "x", "scopes": ["workspaces"]}), 403, "scopes_wider")


def test_a_person_may_choose_any_scope(owner: User, owner_client: Client) -> None:
    body = {"name": "x", "scopes": ["workspaces", "admin", "read"]}
    answer = owner_client.post(TOKENS, body, content_type="application/json")
    assert answer.status_code == 201
    assert answer.json()["scopes"] == ["admin", "read", "workspaces"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["root"]},
        {"name": "", "scopes": ["read"]},
        {"name": "x", "scopes": ["read"], "days": 0},
        {"name": "x", "scopes": ["read"], "days": 367},
        {"name": "x" * 101, "scopes": ["read"]},
    ],
)
def test_what_is_no_token_is_told(boss: Api, body: object) -> None:
    problem_of(boss("POST", TOKENS, body), 400)


def test_somebody_elses_token_is_not_there(boss: Api, member: User, bearer: Bearer) -> None:
    bearer(member)
    theirs = ApiToken.objects.get(user=member)
    problem_of(boss("DELETE", f"{TOKENS}/{theirs.pk}"), 404, "token_not_found")
    assert [token["id"] for token in boss("GET", TOKENS).json()["tokens"]] != [theirs.pk]
    theirs.refresh_from_db()
    assert theirs.revoked_at is None


def test_there_is_a_limit(boss: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MOST_TOKENS", 1)
    problem_of(boss("POST", TOKENS, {"name": "x", "scopes": ["read"]}), 429, "too_many_tokens")
