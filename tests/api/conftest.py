"""What the API's tests share."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpResponseBase
from django.test import Client

from accounts.models import User
from tests.support import git_repos
from workspaces.services.repositories import providers

__all__ = ["Api", "problem_of"]
LIST = "/api/v1/workspaces"


class Api:
    """Speaks JSON with a token."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers
        self.client = Client(raise_request_exception=False)

    def __call__(self, method: str, path: str = "", body: Any = None, **headers: str) -> Any:
        """Ask; `path` is relative to the list of workspaces unless it begins with a slash."""
        target = path if path.startswith("/") else f"{LIST}/{path}".rstrip("/")
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return self.client.generic(
            method, target, data, content_type="application/json", headers={**self.headers, **named}
        )


def problem_of(answer: HttpResponseBase, status: int, code: str = "") -> dict[str, Any]:
    """The problem document of an answer, which must be one."""
    body: dict[str, Any] = json.loads(answer.getvalue())
    assert answer.status_code == status, body
    assert answer["Content-Type"] == "application/problem+json"
    assert body["status"] == status
    assert body["code"]
    assert body["detail"]
    assert "next_step" in body
    assert "Traceback" not in str(body)
    assert body["request_id"] == answer["X-Request-ID"]
    assert not code or body["code"] == code, body
    return body


@pytest.fixture(autouse=True)
def _github_on_loopback(settings: Any) -> Iterator[None]:
    """Nothing leaves this machine: where GitHub would be, nobody listens."""
    settings.ENVIRONMENT = dataclasses.replace(settings.ENVIRONMENT, github_api_url="http://127.0.0.1:9")
    providers.cache_clear()
    yield
    providers.cache_clear()


@pytest.fixture
def api(owner: User, bearer: Callable[..., dict[str, str]]) -> Api:
    """The owner's program."""
    return Api(bearer(owner))


@pytest.fixture
def origin(tmp_path: Path) -> git_repos.Repository:
    """A repository on this machine."""
    return git_repos.create(tmp_path / "rocket.git", {"README.md": "hello"}, branches={"next": {"b": "c"}})
