"""What the gateway asks: may this request go there, and a code for a cookie."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest
import time_machine
from django.conf import settings
from django.test import Client
from django.utils import timezone

from accounts.models import ApiToken, User
from accounts.services import tokens
from tests.api.conftest import Api, problem_of
from tests.services.stage import Stage
from workspaces.models import Event, Workspace
from workspaces.runtime.port import Observation, Runtime
from workspaces.services import entering, intents
from workspaces.services.runtimes import run_spec

Factory = Callable[..., Workspace]
pytestmark = pytest.mark.django_db
NONCE = "a-nonce-of-the-gateway"
STATE = hashlib.sha256(NONCE.encode()).hexdigest()
UPSTREAM = {"ide": "unix:/run/ide.sock", "ports": "unix:/run/ports"}


@pytest.fixture
def gateway() -> Api:
    return Api({"X-Slipway-Internal": settings.ENVIRONMENT.internal_secret})


@pytest.fixture
def workspace(owner: User, workspace_factory: Factory) -> Workspace:
    return workspace_factory(owner, state="running", upstream=UPSTREAM)


def ask(gateway: Api, slug: str = "rocket-bcdfg", **extra: Any) -> dict[str, Any]:
    body = {"slug": slug, "port": None, "cookie": None, "bearer": None, "wake": False, **extra}
    answer = gateway("POST", "/internal/authorize", body)
    assert answer.status_code == 200, answer.content
    document: dict[str, Any] = answer.json()
    return document


def code_for(user: User, client: Client, label: str = "rocket-bcdfg") -> str:
    """As the portal makes it: a one-time code in the address on the workspace's host."""
    key = client.session.session_key
    assert key
    url = entering.enter(user=user, session_key=key, label=label, state=STATE, path="/x?y=1")
    assert urlsplit(url).hostname == f"{label}.localhost"
    query = parse_qs(urlsplit(url).query)
    assert (query["next"], query["state"]) == (["/x?y=1"], [STATE])
    return query["code"][0]


def redeem(gateway: Api, code: str, label: str = "rocket-bcdfg", nonce: str = NONCE) -> Any:
    return gateway("POST", "/internal/redeem", {"code": code, "label": label, "nonce": nonce})


@pytest.fixture
def cookie(gateway: Api, owner: User, owner_client: Client, workspace: Workspace) -> str:
    body = redeem(gateway, code_for(owner, owner_client)).json()
    assert body["max_age"] == 86400
    cookie: str = body["cookie"]
    return cookie


@pytest.mark.parametrize("path", ["authorize", "redeem"])
@pytest.mark.parametrize("headers", [{}, {"X-Slipway-Internal": ""}, {"X-Slipway-Internal": "wrong\xe9"}])
def test_without_the_secret_there_is_nothing_here(path: str, headers: dict[str, str]) -> None:
    problem_of(Api(headers)("POST", f"/internal/{path}", {"slug": "x"}), 404, "not_found")


def test_the_owner_is_let_in_and_told_where_to(gateway: Api, owner: User, workspace: Workspace, cookie: str) -> None:
    answer = ask(gateway, cookie=cookie)
    assert answer["decision"] == "allow"
    assert answer["upstream"] == UPSTREAM
    assert (answer["workspace"], answer["user"], answer["slug"]) == (str(workspace.pk), str(owner.pk), workspace.slug)
    assert answer["session"]
    assert answer["ttl"] > 0
    assert answer["start_page"] == "http://localhost:8000/workspaces/rocket-bcdfg/start"


def test_the_key_to_a_door_is_told_with_an_address_across_the_network_and_belongs_to_one_run(
    gateway: Api, workspace: Workspace, cookie: str
) -> None:
    assert "key" not in ask(gateway, cookie=cookie)["upstream"]
    address = "tcp://[fd00::7]:7411"
    Workspace.objects.update(upstream={"ide": address, "ports": address}, run=3)
    told = ask(gateway, cookie=cookie)["upstream"]
    assert told == {"ide": address, "ports": address, "key": run_spec(Workspace.objects.get()).secrets["door_key"]}
    assert Workspace.objects.get().upstream == {"ide": address, "ports": address}
    assert run_spec(Workspace.objects.get()).secrets["run_token"].rpartition(".")[2] not in told["key"]
    Workspace.objects.update(run=4)
    assert ask(gateway, cookie=cookie)["upstream"]["key"] != told["key"]
    Workspace.objects.update(state="stopping")
    assert ask(gateway, cookie=cookie)["upstream"] == {}


def test_the_key_to_a_door_changes_nothing_about_a_run(workspace: Workspace) -> None:
    spec = run_spec(workspace)
    assert dataclasses.replace(spec, secrets={}).digest() == spec.digest()
    assert spec.secrets["door_key"] not in repr(spec)
    # What a door takes for its first line, with the longest name that it knows.
    assert len(f"SLIPWAY/1 {spec.secrets['door_key']} port/65535\n") <= 256


@pytest.mark.parametrize("extra", [{}, {"cookie": ""}, {"cookie": "nonsense"}, {"cookie": "é"}, {"bearer": "slp_x"}])
def test_nobody_must_sign_in(gateway: Api, workspace: Workspace, extra: dict[str, str]) -> None:
    answer = ask(gateway, **extra)
    assert (answer["decision"], answer["upstream"], answer["workspace"]) == ("sign_in", {}, None)


def test_nobody_cannot_tell_which_workspaces_there_are(gateway: Api, workspace: Workspace) -> None:
    there, not_there = ask(gateway), ask(gateway, slug="not-there")
    assert {**there, "slug": "", "start_page": ""} == {**not_there, "slug": "", "start_page": ""}


def test_a_cookie_is_good_for_one_host(
    gateway: Api, owner: User, owner_client: Client, workspace: Workspace, workspace_factory: Factory, cookie: str
) -> None:
    workspace_factory(owner, slug="other-bcdfg", state="running", upstream=UPSTREAM)
    assert ask(gateway, slug="other-bcdfg", cookie=cookie)["decision"] == "sign_in"
    assert ask(gateway, port=3000, cookie=cookie)["decision"] == "sign_in"
    port_cookie = redeem(gateway, code_for(owner, owner_client, "3000-rocket-bcdfg"), "3000-rocket-bcdfg").json()
    assert ask(gateway, port=3000, cookie=port_cookie["cookie"])["decision"] == "allow"
    assert ask(gateway, port=3001, cookie=port_cookie["cookie"])["decision"] == "sign_in"


def test_somebody_else_finds_nothing(gateway: Api, outsider: User, bearer: Any, workspace: Workspace) -> None:
    token = bearer(outsider)["Authorization"].removeprefix("Bearer ")
    answer = ask(gateway, bearer=token)
    assert (answer["decision"], answer["workspace"], answer["upstream"]) == ("not_found", None, {})
    assert {**ask(gateway, slug="x" * 9, bearer=token), "slug": "", "start_page": ""} == {
        **answer,
        "slug": "",
        "start_page": "",
    }


def test_a_sign_out_ends_the_cookie(gateway: Api, owner_client: Client, workspace: Workspace, cookie: str) -> None:
    owner_client.post("/sign-out")
    assert ask(gateway, cookie=cookie)["decision"] == "sign_in"


def test_a_disabled_user_is_out(gateway: Api, owner: User, workspace: Workspace, bearer: Any, cookie: str) -> None:
    token = bearer(owner)["Authorization"].removeprefix("Bearer ")
    owner.is_active = False
    owner.save(update_fields=["is_active"])
    assert ask(gateway, cookie=cookie)["decision"] == "sign_in"
    assert ask(gateway, bearer=token)["decision"] == "sign_in"


def test_a_changed_password_ends_the_cookie(gateway: Api, owner: User, workspace: Workspace, cookie: str) -> None:
    owner.set_password("another long password")
    owner.save(update_fields=["password"])
    assert ask(gateway, cookie=cookie)["decision"] == "sign_in"


def test_a_cookie_ends_after_a_day(gateway: Api, workspace: Workspace, cookie: str) -> None:
    with time_machine.travel(timezone.now() + timedelta(hours=25)):
        assert ask(gateway, cookie=cookie)["decision"] == "sign_in"


def test_tokens(gateway: Api, owner: User, workspace: Workspace, bearer: Any) -> None:
    token = bearer(owner)["Authorization"].removeprefix("Bearer ")
    answer = ask(gateway, bearer=token)
    assert (answer["decision"], answer["session"]) == ("allow", None)
    reading = bearer(owner, "read")["Authorization"].removeprefix("Bearer ")
    assert ask(gateway, bearer=reading)["decision"] == "sign_in"
    with time_machine.travel(timezone.now() + timedelta(days=2)):
        assert ask(gateway, bearer=token)["decision"] == "sign_in"
    tokens.revoke_token(ApiToken.objects.get(scopes=["workspaces"]), actor=None, now=timezone.now())
    assert ask(gateway, bearer=token)["decision"] == "sign_in"


@pytest.mark.parametrize(
    ("state", "desired", "wakes"),
    [
        ("stopped", "stopped", True),
        ("stopping", "stopped", True),
        ("failed", "running", False),
        ("failed", "stopped", False),
        ("starting", "running", False),
        ("pending", "running", False),
        ("running", "stopped", True),
        ("running", "running", False),
        ("running", "deleted", False),
        ("stopping", "deleted", False),
        ("deleting", "deleted", False),
        ("deleted", "deleted", False),
    ],
)
def test_only_a_stopped_workspace_is_woken_and_only_by_a_page(
    gateway: Api, owner: User, workspace: Workspace, cookie: str, state: str, desired: str, wakes: bool
) -> None:
    Workspace.objects.update(state=state, desired=desired, upstream={})
    answer = ask(gateway, cookie=cookie)
    assert (answer["decision"], answer["upstream"]) == ("not_running", {})
    assert Workspace.objects.get().generation == 1
    answer = ask(gateway, cookie=cookie, wake=True)
    assert (answer["decision"], answer["state"]) == ("not_running", state)
    row = Workspace.objects.get()
    assert (row.generation, row.desired) == ((2, "running") if wakes else (1, desired))
    ask(gateway, cookie=cookie, wake=True)
    assert Event.objects.filter(kind="intent", reason="url_opened").count() == wakes


@pytest.fixture
def stage(owner: User, workspace_factory: Factory) -> Iterator[Stage]:
    """A workspace that was started and runs."""
    with time_machine.travel(datetime(2026, 11, 23, 12, tzinfo=UTC), tick=False) as traveller:
        stage = Stage(traveller)
        stage.give(workspace_factory(owner, look_again_at=timezone.now()))
        assert stage.work(seconds=10).state == "running"
        yield stage


@pytest.fixture
def load_page(gateway: Api, stage: Stage, owner: User, bearer: Any) -> Callable[[], str]:
    """Open the workspace's address; what the gateway is told."""
    token = bearer(owner)["Authorization"].removeprefix("Bearer ")
    return lambda: str(ask(gateway, bearer=token, wake=True)["decision"])


class Meanwhile:
    """A runtime that something happens beside, once, between the operator's reading of the row and its decision."""

    def __init__(self, runtime: Runtime, happens: Callable[[], object]) -> None:
        self._runtime, self._happens = runtime, [happens]

    def observe(self, name: str) -> Observation:
        while self._happens:
            self._happens.pop()()
        return self._runtime.observe(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)


def test_opening_it_calls_off_a_stop_that_has_not_begun(
    stage: Stage, owner: User, load_page: Callable[[], str]
) -> None:
    intents.stop(stage.row(), actor=owner, now=timezone.now())
    answers: list[str] = []
    stage.look(cast("Runtime", Meanwhile(stage.runtime, lambda: answers.append(load_page()))))
    assert answers == ["allow"]
    row = stage.work(seconds=10)
    assert (row.state, row.desired, row.run) == ("running", "running", 1)
    assert load_page() == "allow"


def test_opening_it_while_it_stops_starts_it_again(stage: Stage, owner: User, load_page: Callable[[], str]) -> None:
    stage.behave(stop_after=3)
    intents.stop(stage.row(), actor=owner, now=timezone.now())
    assert stage.work(seconds=1).state == "stopping"
    assert load_page() == "not_running"
    row = stage.work(seconds=10)
    assert (row.state, row.desired, row.run) == ("running", "running", 2)
    assert load_page() == "allow"


def test_opening_it_before_a_restart_waits_for_the_fresh_run(
    stage: Stage, owner: User, owner_client: Client, load_page: Callable[[], str]
) -> None:
    intents.restart(stage.row(), actor=owner, now=timezone.now())
    assert load_page() == "not_running"
    # The start page must not send the browser back to the run that ends.
    page = owner_client.get("/workspaces/rocket-bcdfg/start").content.decode()
    assert 'data-state="running"' not in page
    assert "Open VS Code" not in page
    assert "is ready" not in page
    assert 'http-equiv="refresh" content="3"' in page
    assert stage.work(seconds=10).run == 2
    assert load_page() == "allow"
    page = owner_client.get("/workspaces/rocket-bcdfg/start").content.decode()
    assert 'data-state="running"' in page
    assert "Open VS Code" in page


def test_what_is_gone_is_not_found(gateway: Api, owner: User, workspace: Workspace, cookie: str) -> None:
    Workspace.objects.update(state="purged")
    assert ask(gateway, cookie=cookie)["decision"] == "not_found"


@pytest.mark.parametrize("port", [True, "3000", 3000.5, 0, -1, 65536, 10**30, [], {}])
def test_a_port_must_be_a_port(gateway: Api, port: Any) -> None:
    problem_of(gateway("POST", "/internal/authorize", {"slug": "x", "port": port}), 400, "invalid_request")


def test_a_code_works_once(gateway: Api, owner: User, owner_client: Client, workspace: Workspace) -> None:
    code = code_for(owner, owner_client)
    assert redeem(gateway, code).status_code == 200
    problem_of(redeem(gateway, code), 400, "code_spent")


@pytest.mark.parametrize("wrong", [{"nonce": "other"}, {"label": "3000-rocket-bcdfg"}, {"label": "other-bcdfg"}])
def test_a_code_is_for_one_browser_and_one_host(
    gateway: Api, owner: User, owner_client: Client, workspace: Workspace, wrong: dict[str, str]
) -> None:
    code = code_for(owner, owner_client)
    problem_of(redeem(gateway, code, **wrong), 400, "code_spent")
    problem_of(redeem(gateway, code), 400, "code_spent")


def test_a_code_expires(gateway: Api, owner: User, owner_client: Client, workspace: Workspace) -> None:
    code = code_for(owner, owner_client)
    with time_machine.travel(timezone.now() + timedelta(seconds=61)):
        problem_of(redeem(gateway, code), 400, "code_spent")


def test_a_code_of_nobody(gateway: Api) -> None:
    for code in ("", "slc_" + "x" * 38, "é" * 50):
        problem_of(redeem(gateway, code), 400, "code_spent")
