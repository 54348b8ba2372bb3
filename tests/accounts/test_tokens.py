"""Tokens: made, shown once, scoped, ended."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
import time_machine
from axes.models import AccessLog
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from accounts.models import ApiToken, User
from accounts.selectors import valid_token
from accounts.services import housekeeping, tokens
from kernel import crypto
from kernel.errors import Invalid

pytestmark = pytest.mark.django_db


def _printed(*arguments: str) -> str:
    out, errors = StringIO(), StringIO()
    call_command(*arguments, stdout=out, stderr=errors)
    assert errors.getvalue() == ""
    return out.getvalue()


def test_the_command_prints_the_token_and_nothing_else(owner: User) -> None:
    printed = _printed("create_token", "owner", "--scopes", "read,workspaces")
    assert printed.count("\n") == 1
    secret = printed.strip()
    assert crypto.looks_like_token(secret, "slp_")
    assert Client().get("/api/v1/me", headers={"Authorization": f"Bearer {secret}"}).json()["username"] == "owner"
    row = ApiToken.objects.get()
    assert row.scopes == ["read", "workspaces"]
    assert secret not in str(row.__dict__)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody", "--scopes", "read"], "no active user"),
        (["owner", "--scopes", "everything"], "no scope 'everything'"),
        (["owner", "--scopes", " , "], "at least one scope"),
        (["owner", "--scopes", "read", "--days", "0"], "1 to 366 days"),
        (["owner", "--scopes", "read", "--days", "367"], "1 to 366 days"),
        (["owner", "--scopes", "read", "--days", "nan"], "days"),
        (["owner", "--scopes", "read", "--days", "1e300"], "days"),
    ],
)
def test_the_command_refuses_in_words(owner: User, arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        _printed("create_token", *arguments)
    assert not ApiToken.objects.exists()


def test_a_disabled_user_gets_none(owner: User) -> None:
    User.objects.update(is_active=False)
    with pytest.raises(CommandError):
        _printed("create_token", "owner", "--scopes", "read")


@pytest.mark.parametrize(
    ("names", "kept"), [(["read"], ["read"]), ([" workspaces ", "read", "read"], ["read", "workspaces"])]
)
def test_scopes(names: list[str], kept: list[str]) -> None:
    assert tokens.parse_scopes(names) == kept


def test_an_unknown_scope_names_the_known_ones() -> None:
    with pytest.raises(Invalid) as refused:
        tokens.parse_scopes(["root"])
    assert "read, workspaces, admin" in refused.value.next_step


def test_a_token_ends(owner: User) -> None:
    now = timezone.now()
    token, secret = tokens.create_token(user=owner, name="x", scopes=["read"], life=timedelta(days=1), now=now)
    assert valid_token(secret, now=now) == token
    assert valid_token(secret, now=now + timedelta(days=1)) is None
    assert valid_token(secret[:-1] + ("1" if secret.endswith("0") else "0"), now=now) is None
    tokens.revoke_token(token, actor=None, now=now)
    assert valid_token(secret, now=now) is None


def test_the_use_of_a_token_is_noted_once_a_minute(owner: User, bearer: Any) -> None:
    headers = bearer(owner)
    client = Client()

    def used() -> Any:
        client.get("/api/v1/me", headers=headers)
        return ApiToken.objects.get().last_used_at

    first = used()
    assert first is not None
    assert used() == first
    with time_machine.travel(first + timedelta(minutes=2)):
        assert used() > first


def test_what_ended_long_ago_is_forgotten(owner: User) -> None:
    now = timezone.now()
    for days in (1, 60):
        long_ago = now - timedelta(days=100 if days == 60 else 0)
        tokens.create_token(user=owner, name="x", scopes=["read"], life=timedelta(days=days), now=long_ago)
    housekeeping.forget_expired(now=now)
    assert ApiToken.objects.count() == 1


def test_sessions_and_the_log_of_sign_ins_do_not_grow_for_ever(owner: User) -> None:
    now = timezone.now()
    form = {"username": "owner", "password": "owner has a long password"}
    for days in (40, 0):
        with time_machine.travel(now - timedelta(days=days)):
            assert Client().post("/sign-in", form).status_code == 302
    assert (Session.objects.count(), AccessLog.objects.count()) == (2, 2)
    housekeeping.forget_expired(now=now)
    assert (Session.objects.count(), AccessLog.objects.count()) == (1, 1)


def test_the_admin_shows_and_deletes_tokens_and_nothing_else(admin: User, owner: User) -> None:
    now = timezone.now()
    token, _ = tokens.create_token(user=owner, name="mine", scopes=["read"], life=timedelta(days=1), now=now)
    client = Client()
    client.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
    there = "/admin/accounts/apitoken"
    assert b"mine" in client.get(f"{there}/").content
    assert b"mine" in client.get(f"{there}/{token.pk}/change/").content
    new = {"name": "x", "expires_at_0": "2030-01-01", "expires_at_1": "00:00:00"}
    assert client.get(f"{there}/add/").status_code == 403
    assert client.post(f"{there}/add/", new).status_code == 403
    assert (
        client.post(f"{there}/{token.pk}/change/", {**new, "revoked_at_0": "", "revoked_at_1": ""}).status_code == 403
    )
    assert ApiToken.objects.get().name == "mine"
    assert client.post(f"{there}/{token.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not ApiToken.objects.exists()
