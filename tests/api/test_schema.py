"""The schema is complete, is the one in `docs`, and the API keeps to it whatever is sent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import checks

from accounts.models import User
from tests.support.github import GitHubServer
from workspaces.models import Workspace
from workspaces.services.repositories import providers

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "openapi.yaml"


def _document() -> dict[str, Any]:
    generator: Any = SchemaGenerator  # Untyped in drf-spectacular.
    document: dict[str, Any] = generator().get_schema(request=None, public=True)
    return document


def test_the_schema_is_valid_and_the_one_in_docs(tmp_path: Path) -> None:
    fresh = tmp_path / "openapi.yaml"
    errors = StringIO()
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(fresh), stderr=errors)
    assert DOCUMENT.exists(), "run `make schema`"
    assert fresh.read_text() == DOCUMENT.read_text(), "the API has changed: run `make schema`"


def test_every_address_says_what_can_go_wrong() -> None:
    for path, operations in _document()["paths"].items():
        for method, operation in operations.items():
            assert {"401", "403"} <= set(operation["responses"]), f"{method} {path}"
            assert operation["operationId"]
            assert operation.get("description")


CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture
def empty_github(settings: Any) -> Iterator[None]:
    """A GitHub without repositories: what is sent may well read like the name of one, and one that is away is a 503."""
    with GitHubServer() as server:
        settings.ENVIRONMENT = dataclasses.replace(settings.ENVIRONMENT, github_api_url=server.api_url)
        providers.cache_clear()
        yield
        providers().close()


def _operations() -> list[Any]:
    schema: Any = schemathesis.openapi.from_dict(_document())
    schema.app = get_wsgi_application()
    return [result.ok() for result in schema.get_all_operations()]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("empty_github")
@pytest.mark.parametrize("operation", _operations(), ids=lambda operation: operation.label)
def test_whatever_is_sent_the_answer_is_as_described(
    operation: Any, owner: User, bearer: Callable[..., dict[str, str]], workspace_factory: Callable[..., Workspace]
) -> None:
    mine, headers = workspace_factory(owner, state="stopped", desired="stopped"), bearer(owner)

    @given(case=operation.as_strategy(), there=st.booleans())
    @settings(max_examples=15, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def ask(case: Any, *, there: bool) -> None:
        if there and "workspace_id" in (case.path_parameters or {}):
            case.path_parameters["workspace_id"] = str(mine.pk)
        case.call_and_validate(headers=headers, checks=CHECKS)

    ask()
