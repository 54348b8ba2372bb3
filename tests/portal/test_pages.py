"""Pages as a signed-in person, a stranger and a signed-out browser get them."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from workspaces.models import Condition, Workspace
from workspaces.services import entering
from workspaces.states import State

Factory = Callable[..., Workspace]
pytestmark = pytest.mark.django_db
PAGES = [
    "/",
    "/new",
    "/trash",
    "/workspaces/rocket-bcdfg",
    "/workspaces/rocket-bcdfg/start",
    "/workspaces/rocket-bcdfg/log",
]


@pytest.fixture
def outsider_client(outsider: User) -> Client:
    client = Client()
    client.force_login(outsider, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.mark.parametrize("path", PAGES)
def test_signed_out_people_are_asked_to_sign_in(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 302
    assert answer["Location"].startswith(f"/sign-in?next={path}")


@pytest.mark.parametrize("path", PAGES)
def test_the_owner_gets_every_page(owner: User, owner_client: Client, workspace_factory: Factory, path: str) -> None:
    workspace_factory(owner, state="running", desired="running")
    answer = owner_client.get(path)
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.parametrize("path", PAGES[3:])
def test_somebody_elses_workspace_is_not_there(
    owner: User, outsider_client: Client, workspace_factory: Factory, path: str
) -> None:
    workspace_factory(owner, state="running")
    answer = outsider_client.get(path)
    assert answer.status_code == 404
    assert b"There is no such workspace" in answer.content
    assert b"rocket-bcdfg" not in outsider_client.get("/").content


@pytest.mark.parametrize("state", [state for state in State if state is not State.PURGED])
def test_every_state_is_shown(owner: User, owner_client: Client, workspace_factory: Factory, state: State) -> None:
    workspace = workspace_factory(owner, state=state, purge_at=timezone.now(), deleted_at=timezone.now())
    for path in ("", "/start"):
        assert owner_client.get(f"/workspaces/{workspace.slug}{path}").status_code == 200
    listed = workspace.slug.encode() in owner_client.get("/").content
    assert listed is (state is not State.DELETED)
    assert (workspace.slug.encode() in owner_client.get("/trash").content) is (state is State.DELETED)


def test_a_purged_workspace_is_gone(owner: User, owner_client: Client, workspace_factory: Factory) -> None:
    workspace_factory(owner, state="purged")
    assert owner_client.get("/workspaces/rocket-bcdfg").status_code == 404


def test_names_become_text_and_never_markup(owner: User, owner_client: Client, workspace_factory: Factory) -> None:
    workspace_factory(owner, name="<img src=x onerror=alert(1)>\"'", state="running")
    for path in ("/", "/workspaces/rocket-bcdfg", "/workspaces/rocket-bcdfg/start", "/?q=<script>"):
        assert b"<img src=x" not in owner_client.get(path).content
        assert b"<script>" not in owner_client.get(path).content


def test_an_empty_list_invites_and_an_empty_search_says_so(
    owner: User, owner_client: Client, workspace_factory: Factory
) -> None:
    assert b"No workspaces yet" in owner_client.get("/").content
    workspace_factory(owner)
    assert b"Nothing matches" in owner_client.get("/?q=zzz").content


def test_search_finds_name_repository_and_branch(owner: User, owner_client: Client, workspace_factory: Factory) -> None:
    workspace_factory(owner, slug="one-bcdfg", name="Telemetry", branch="main")
    workspace_factory(owner, slug="two-bcdfg", name="Other", branch="feature/x")
    for query, slugs in {"telem": {"one-bcdfg"}, "FEATURE": {"two-bcdfg"}, "acme": {"one-bcdfg", "two-bcdfg"}}.items():
        page = owner_client.get("/", {"q": query}).content.decode()
        assert {slug for slug in ("one-bcdfg", "two-bcdfg") if f'id="w-{slug}"' in page} == slugs


def test_pages_follow_each_other_without_gaps(owner: User, owner_client: Client, workspace_factory: Factory) -> None:
    made = {workspace_factory(owner, slug=f"w-{number:03}", state="stopped").slug for number in range(120)}
    seen: list[str] = []
    path = "/"
    for _ in range(3):
        answer = owner_client.get(path)
        seen += [key.removeprefix("w-") for key in answer.context["picture"].pieces]
        path = "/?after=" + (answer.context["picture"].order.rsplit("|", 1)[1]).replace("+", "%2B")
    assert len(seen) == 120
    assert set(seen) == made


# In UTC these lie outside of what a time can be.
OUTSIDE = [f"{time}_{UUID(int=0)}" for time in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00")]


@pytest.mark.parametrize("after", ["x", "2026-01-01_x", "_", "2026-01-01T00:00:00_", "\x00", "9" * 300, "💥", *OUTSIDE])
@pytest.mark.parametrize(("path", "state"), [("/", "stopped"), ("/trash", "deleted")])
def test_a_cursor_of_nonsense_is_the_first_page(
    owner: User, owner_client: Client, workspace_factory: Factory, after: str, path: str, state: str
) -> None:
    workspace_factory(owner, state=state, deleted_at=timezone.now())
    answer = owner_client.get(path, {"after": after, "q": ""})
    assert b"rocket-bcdfg" in answer.content


def test_the_list_costs_the_same_for_one_and_for_fifty(
    owner: User, owner_client: Client, workspace_factory: Factory, django_assert_max_num_queries: Callable[..., object]
) -> None:
    for number in range(50):
        workspace_factory(owner, slug=f"many-{number:03}", state="starting")
    with django_assert_max_num_queries(6):  # type: ignore[attr-defined]  # pytest-django's fixture is a context manager.
        owner_client.get("/")


@pytest.mark.parametrize(("visibility", "said"), [("unknown", "Visibility unknown"), ("internal", "Internal")])
def test_the_detail_page_says_who_may_read_the_repository(
    owner: User, owner_client: Client, workspace_factory: Factory, visibility: str, said: str
) -> None:
    workspace = workspace_factory(owner, state="stopped")
    workspace.repository.visibility = visibility
    workspace.repository.save(update_fields=["visibility"])
    Condition.objects.create(workspace=workspace, type="content", status="waiting", run=1)
    text = owner_client.get("/workspaces/rocket-bcdfg").content.decode()
    facts = text[text.index('id="detail_facts"') :]
    assert re.search(rf'<p class="soft">\s*{said}', facts)
    assert '<span class="hidden">Not begun</span>' in text
    assert '<span class="hidden">waiting</span>' not in text


def test_the_start_page_shows_the_steps_and_starts_nothing(
    owner: User, owner_client: Client, workspace_factory: Factory
) -> None:
    workspace = workspace_factory(owner, state="stopped", desired="stopped", run=1)
    now = timezone.now()
    Condition.objects.create(
        workspace=workspace, run=1, type="content", status="failed", message="No such branch",
        next_step="Choose another.",
        started_at=now - timedelta(seconds=3), finished_at=now,
    )  # fmt: skip
    page = owner_client.get("/workspaces/rocket-bcdfg/start?next=/?folder=/x").content.decode()
    assert "No such branch" in page
    assert "Choose another." in page
    assert "/do/start" in page
    workspace.refresh_from_db()
    assert (workspace.state, workspace.desired, workspace.generation) == ("stopped", "stopped", 1)


@pytest.mark.parametrize("path", ["//evil.example", "https://evil.example", "/\\evil", "javascript:alert(1)", ""])
def test_a_start_page_never_leads_elsewhere(
    owner: User, owner_client: Client, workspace_factory: Factory, path: str
) -> None:
    workspace_factory(owner, state="running")
    page = owner_client.get("/workspaces/rocket-bcdfg/start", {"next": path}).context["landing"]
    assert page == entering.host_url("rocket-bcdfg", "/")


def test_a_start_page_leads_to_the_port_that_was_asked_for(
    owner: User, owner_client: Client, workspace_factory: Factory
) -> None:
    workspace_factory(owner, state="running")
    answer = owner_client.get("/workspaces/rocket-bcdfg/start?port=3000&next=/dashboard?a=b%26c")
    landing = entering.host_url("3000-rocket-bcdfg", "/dashboard?a=b&c")
    page = html.unescape(answer.content.decode())
    assert f'data-landing="{landing}"' in page
    assert f"url={landing}" in page
    assert "Open port 3000" in page
    # What its stream draws later leads there, too.
    live = re.search('data-live="([^"]+)"', page)
    assert live is not None
    asked = parse_qs(urlsplit(live[1]).query)
    assert asked == {"next": ["/dashboard?a=b&c"], "port": ["3000"]}


@pytest.mark.parametrize("port", ["", "80", "65536", "3000x", "-3000", "٣٠٠٠", "3" * 5000, "3000/@evil.example"])
def test_a_port_that_is_none_leads_to_the_editor(
    owner: User, owner_client: Client, workspace_factory: Factory, port: str
) -> None:
    workspace_factory(owner, state="running")
    answer = owner_client.get("/workspaces/rocket-bcdfg/start", {"port": port, "next": "/x"})
    assert f'data-landing="{entering.host_url("rocket-bcdfg", "/x")}"' in answer.content.decode()


def test_a_warning_and_ports_are_shown(owner: User, owner_client: Client, workspace_factory: Factory) -> None:
    workspace_factory(owner, state="running", warnings=["no_sandbox"], ports=[3000])
    page = owner_client.get("/workspaces/rocket-bcdfg").content.decode()
    assert "Install bubblewrap" in page
    assert entering.host_url("3000-rocket-bcdfg") in page
    assert "Install bubblewrap" in owner_client.get("/").content.decode()


def test_entering_makes_a_code_for_the_owner_only(
    owner: User, owner_client: Client, outsider_client: Client, workspace_factory: Factory
) -> None:
    workspace_factory(owner, state="running")
    asked = {"label": "rocket-bcdfg", "state": "a" * 64, "next": "/?folder=/x"}
    answer = owner_client.get("/gateway/enter", asked)
    assert answer.status_code == 302
    assert answer["Location"].startswith(entering.host_url("rocket-bcdfg", "/_slipway/enter?code="))
    assert outsider_client.get("/gateway/enter", asked).status_code == 404
    for bad in ({**asked, "state": "x"}, {**asked, "label": "../etc"}, {}):
        assert owner_client.get("/gateway/enter", bad).status_code in {400, 404}


@pytest.mark.parametrize(
    "path", ["/nothing", "/workspaces/a%00b", "/workspaces/%F0%9F%92%A5", "/workspaces/x/do/format"]
)
def test_addresses_that_lead_nowhere_say_so(owner_client: Client, path: str) -> None:
    answer = owner_client.get(path)
    assert answer.status_code == 404
    assert b"Go to your workspaces" in answer.content


def test_sign_in_says_what_is_wrong_and_leads_on(client: Client, owner: User) -> None:
    bad = client.post("/sign-in", {"username": "owner", "password": "wrong"})
    assert bad.status_code == 200
    assert b'role="alert"' in bad.content
    good = client.post("/sign-in", {"username": "owner", "password": "owner has a long password", "next": "/trash"})
    assert (good.status_code, good["Location"]) == (302, "/trash")


def test_too_many_tries_are_explained(client: Client, owner: User) -> None:
    answers = [client.post("/sign-in", {"username": "owner", "password": "wrong"}) for _ in range(9)]
    assert answers[-1].status_code == 429
    assert b"Too many tries" in answers[-1].content
