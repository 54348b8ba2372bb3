"""How often one person may let the platform ask repositories' hosts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.conf import settings
from django.test import Client

from accounts.models import User
from tests.api.conftest import Api, problem_of
from tests.support.git_repos import Repository
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.django_db(transaction=True)
BRANCHES = "/api/v1/repositories/branches"
SUGGESTIONS = "/api/v1/repositories/suggestions"
MOST = settings.ENVIRONMENT.lookups_per_minute


@pytest.fixture
def used_up(api: Api) -> Api:
    """The owner, after as many lookups as are allowed; what they say does not matter."""
    for _ in range(MOST):
        assert api("GET", BRANCHES).status_code == 400
    return api


def test_lookups_are_limited_for_each_person_apart(
    used_up: Api, member: User, bearer: Callable[..., dict[str, str]], origin: Repository
) -> None:
    for method, path, body in (("GET", f"{BRANCHES}?repo={origin.url}", None), ("POST", "", {"repo": origin.url})):
        answer = used_up(method, path, body)
        problem = problem_of(answer, 429, "throttled")
        assert problem["next_step"]
        assert 0 < int(answer["Retry-After"]) <= 60
    assert used_up("GET").status_code == 200
    assert used_up("GET", SUGGESTIONS).status_code == 200
    assert Api(bearer(member))("GET", f"{BRANCHES}?repo={origin.url}").status_code == 200


def test_the_form_counts_as_well(used_up: Api, owner_client: Client, origin: Repository) -> None:
    key = owner_client.get("/new").context["filled"].key
    answer = owner_client.post("/new", {"repo": origin.url, "key": key})
    assert answer.status_code == 429
    assert "try again" in answer.content.decode()
    assert origin.url in answer.content.decode()


def test_suggestions_are_limited_too(api: Api) -> None:
    for _ in range(MOST):
        assert api("GET", SUGGESTIONS).status_code == 200
    problem_of(api("GET", SUGGESTIONS), 429, "throttled")


def test_nobody_is_refused_for_redis_being_away(api: Api, valkey: ValkeyServer, origin: Repository) -> None:
    valkey.stop()
    try:
        for _ in range(MOST + 1):
            assert api("GET", BRANCHES).status_code == 400
        assert api("GET", f"{BRANCHES}?repo={origin.url}").status_code == 200
        assert api("POST", body={"repo": origin.url}).status_code == 201
    finally:
        valkey.start()
