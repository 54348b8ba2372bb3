"""Signing in and out, and who is told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import time_machine
from axes.models import AccessAttempt
from django.contrib.auth.signals import user_logged_out
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.http import HttpRequest
from django.test import Client
from django.utils import timezone

from accounts.models import SignInLink, User
from accounts.services import gateways, links, tokens
from tests.services.stage import together
from tests.support.revocations import Listener

pytestmark = pytest.mark.django_db


def _link(user: str = "owner") -> str:
    out = StringIO()
    call_command("sign_in_link", user, stdout=out)
    return out.getvalue().strip()


def _open(link: str, client: Client) -> Any:
    parts = urlsplit(link)
    return client.get(f"{parts.path}?{parts.query}")


def _who(client: Client) -> str | None:
    answer = client.get("/api/v1/me")
    name: str | None = answer.json().get("username")
    return name


def test_a_link_signs_in_once(owner: User) -> None:
    link = _link()
    assert link.startswith("http://localhost:8000/sign-in/link?key=slk_")
    first, second = Client(), Client()
    answer = _open(link, first)
    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert answer["Referrer-Policy"] == "no-referrer"
    assert "no-store" in answer["Cache-Control"]
    assert _who(first) == "owner"
    answer = _open(link, second)
    assert answer.status_code == 401
    assert "make sign-in" in answer.content.decode()
    assert _who(second) is None


@pytest.mark.django_db(transaction=True)
def test_a_link_opened_at_once_signs_in_once(owner: User) -> None:
    secret = links.create_sign_in_link(user=owner, now=timezone.now())
    results = together([lambda: links.redeem_sign_in_link(secret, now=timezone.now())] * 4)
    assert sum(isinstance(result, User) for result in results) == 1


def test_a_link_ends_after_an_hour_and_with_the_next_one(owner: User) -> None:
    first = _link()
    second = _link()
    assert _open(first, Client()).status_code == 401
    with time_machine.travel(timezone.now() + timedelta(minutes=61)):
        assert _open(second, Client()).status_code == 401
    assert _open(second, Client()).status_code == 302


def test_a_link_is_kept_as_a_digest_only(owner: User) -> None:
    key = parse_qs(urlsplit(_link()).query)["key"][0]
    assert key not in str(SignInLink.objects.get().__dict__)


@pytest.mark.parametrize("key", ["", "x", "slk_" + "a" * 38, "%00", "%ff%fe", "a" * 5000])
def test_a_link_that_is_none(key: str, db: None) -> None:
    assert Client().get(f"/sign-in/link?key={key}").status_code == 401


def test_a_disabled_user_has_no_way_in(owner: User) -> None:
    link = _link()
    User.objects.update(is_active=False)
    assert _open(link, Client()).status_code == 401


def test_the_owner_account_is_made_once_and_has_no_password(db: None) -> None:
    owner = links.ensure_owner()
    assert (owner.username, owner.is_superuser, owner.has_usable_password()) == ("admin", True, False)
    assert links.ensure_owner().pk == owner.pk
    for password in ("", "admin", owner.password):
        assert Client().post("/sign-in", {"username": "admin", "password": password}).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_sign_out_is_published_without_the_sessions_key(listener: Listener, owner_client: Client) -> None:
    key = owner_client.session.session_key
    assert key
    assert owner_client.post("/sign-out").status_code == 302
    assert listener.next() == {"session": gateways.session_tag(key)}
    assert key not in gateways.session_tag(key)
    assert _who(owner_client) is None


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "end",
    [lambda user: user.delete(), lambda user: _disable(user), lambda user: _change_password(user)],
    ids=["delete", "disable", "password"],
)
def test_the_end_of_a_user_or_of_their_sessions_is_published(
    listener: Listener, owner: User, end: Callable[[User], object]
) -> None:
    key = str(owner.pk)
    end(owner)
    assert listener.next() == {"user": key}


def _disable(user: User) -> None:
    user.is_active = False
    user.save(update_fields=["is_active"])


def _change_password(user: User) -> None:
    user.set_password("another long password")
    user.save(update_fields=["password"])


@pytest.mark.django_db(transaction=True)
def test_a_sign_in_is_not_published(listener: Listener, owner: User, member: User) -> None:
    Client().force_login(owner, backend="django.contrib.auth.backends.ModelBackend")
    _disable(member)
    assert listener.next() == {"user": str(member.pk)}


@pytest.mark.django_db(transaction=True)
def test_the_end_of_a_token_is_published(listener: Listener, owner: User) -> None:
    now = timezone.now()
    token, _ = tokens.create_token(user=owner, name="x", scopes=["read"], life=timedelta(days=1), now=now)
    tokens.revoke_token(token, actor=None, now=now)
    assert listener.next() == {"user": str(owner.pk)}


def test_guessing_is_stopped_for_that_name_and_address_only(owner: User, member: User) -> None:
    client = Client()

    def guess(name: str, password: str, address: str = "192.0.2.1") -> int:
        data = {"username": name, "password": password}
        status: int = client.post("/sign-in", data, REMOTE_ADDR=address).status_code
        return status

    right = "owner has a long password"
    assert {guess("owner", f"wrong {number}") for number in range(7)} == {200}
    assert guess("owner", "wrong again") == 429
    assert guess("owner", right) == 429
    assert guess("member", "member has a long password") == 302
    client.logout()
    assert guess("owner", right, "192.0.2.2") == 302
    client.logout()
    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        assert guess("owner", right) == 302


@pytest.mark.parametrize("path", ["/sign-in", "/admin/login/"])
@pytest.mark.parametrize("name", ["\x00", "x" * 5000, "", "🚀", "a\x00b"])
def test_strange_names_are_only_wrong(db: None, name: str, path: str) -> None:
    assert Client().post(path, {"username": name, "password": "x"}).status_code == 200
    assert not AccessAttempt.objects.filter(username__startswith="xx").exists()


@pytest.mark.parametrize(("name", "status"), [("boss", 302), ("owner", 200)])
def test_the_admin_lets_administrators_in(admin: User, owner: User, name: str, status: int) -> None:
    form = {"username": name, "password": f"{name} has a long password"}
    assert Client().post("/admin/login/?next=/admin/", form).status_code == status


@pytest.mark.parametrize("after", ["/sign-in", "/sign-in?next=/sign-in", "http://testserver/sign-in", "//evil.example"])
def test_signing_in_never_leads_back_to_itself(owner_client: Client, after: str) -> None:
    answer = owner_client.get("/sign-in", {"next": after})
    assert (answer.status_code, answer["Location"]) == (302, "/")


def test_a_session_is_gone_before_gateways_are_told(owner: User, owner_client: Client) -> None:
    alive: list[bool] = []

    def look(request: HttpRequest, **_: object) -> None:
        alive.append(Session.objects.filter(pk=request.session.session_key).exists())

    user_logged_out.connect(look)
    try:
        owner_client.post("/sign-out")
    finally:
        user_logged_out.disconnect(look)
    assert alive == [False]
