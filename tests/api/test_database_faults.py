"""A database that cannot do what it is asked: each reason has its own words, for programs and for people."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.test import Client

from accounts.models import User
from tests.api.conftest import Api, problem_of
from workspaces.models import Workspace

Factory = Callable[..., Workspace]
pytestmark = pytest.mark.django_db(transaction=True)

READ_ONLY = {
    "sqlite": ("PRAGMA query_only = ON", "PRAGMA query_only = OFF"),
    "postgresql": ("SET default_transaction_read_only = on", "SET default_transaction_read_only = off"),
}
FULL = {
    # It takes the file's present size for less than that: from now on the file cannot grow.
    "sqlite": ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1073741823"),
    "postgresql": (
        """
        CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
        CREATE TRIGGER full_disk BEFORE INSERT ON workspaces_event EXECUTE FUNCTION full_disk();
        """,
        "DROP FUNCTION full_disk CASCADE",
    ),
}


def _say(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


@contextmanager
def _broken(how: dict[str, tuple[str, str]]) -> Iterator[None]:
    """A database that is so; the connection is a new one afterwards."""
    before, after = how[connection.vendor]
    if connection.vendor == "sqlite":
        # What earlier tests deleted has left room in the file.
        _say("VACUUM")
    _say(before)
    try:
        yield
    finally:
        _say(after)
        connection.close()


@pytest.mark.parametrize(("how", "code"), [(READ_ONLY, "database_read_only"), (FULL, "database_full")])
def test_what_waiting_does_not_mend_says_so(
    owner: User, bearer: Any, owner_client: Client, workspace_factory: Factory, how: dict[str, Any], code: str
) -> None:
    workspace = workspace_factory(owner, state="stopped", desired="stopped")
    api = Api(bearer(owner))
    api("GET")
    owner_client.raise_request_exception = False
    with _broken(how):
        # What fits into the pages that are there is still taken.
        verbs = itertools.islice(itertools.cycle(("start", "stop")), 1000)
        asked = ((verb, api("POST", f"{workspace.pk}/{verb}")) for verb in verbs)
        verb, answer = next((verb, answer) for verb, answer in asked if answer.status_code != 202)
        page = owner_client.post(f"/workspaces/{workspace.slug}/do/{verb}")
    problem = problem_of(answer, 503, code)
    assert not problem["temporary"]
    assert "administrator" in problem["next_step"]
    assert "Retry-After" not in answer
    assert page.status_code == 503
    assert problem["title"] in page.content.decode()
    workspace.refresh_from_db()
    assert workspace.desired == ("stopped" if verb == "start" else "running")


def test_what_takes_too_long_says_so(owner: User, bearer: Any, workspace_factory: Factory) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite ends no statement")
    workspace = workspace_factory(owner, state="stopped", desired="stopped")
    api = Api(bearer(owner))
    api("GET")
    database = connection.settings_dict
    with psycopg.connect(host=database["HOST"], user=database["USER"], dbname=database["NAME"]) as other:
        other.execute("LOCK TABLE workspaces_workspace IN ACCESS EXCLUSIVE MODE")
        with _broken({"postgresql": ("SET statement_timeout = '50ms'", "SET statement_timeout = '30s'")}):
            answer = api("POST", f"{workspace.pk}/start")
    problem = problem_of(answer, 503, "database_slow")
    assert problem["temporary"]
    assert int(answer["Retry-After"]) >= 1


def test_what_is_our_own_mistake_is_not_called_busy(owner: User, bearer: Any) -> None:
    api = Api(bearer(owner))
    api("GET")
    _say("ALTER TABLE workspaces_workspace RENAME TO elsewhere")
    try:
        problem_of(api("GET"), 500, "internal_error")
    finally:
        connection.close()
        _say("ALTER TABLE elsewhere RENAME TO workspaces_workspace")
