"""The fake GitHub, and our reading of GitHub, against the OpenAPI description that GitHub publishes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest

from tests.support.github import GitHubServer, Pull
from workspaces.repositories import github_json

PATHS: dict[str, Any] = json.loads((Path(__file__).parent / "github_schema.json").read_text())["paths"]
SHA = "a" * 40


@pytest.mark.parametrize("template", PATHS)
def test_the_fake_answers_in_the_published_shape(template: str, github: GitHubServer) -> None:
    github.add("octocat/hello", branches={"main": SHA}, pulls=[Pull(5, SHA)], languages={"Python": 12})
    path = template
    for name, value in {"owner": "octocat", "repo": "hello", "ref": "heads/main", "pull_number": "5"}.items():
        path = path.replace(f"{{{name}}}", value)
    answer = httpx.get(f"{github.api_url}{path}", params={"q": "hello"})
    assert answer.status_code == 200
    jsonschema_rs.validator_for(PATHS[template]["schema"]).validate(answer.json())


@pytest.mark.parametrize(
    ("template", "read"),
    [
        ("/repos/{owner}/{repo}", github_json.repository),
        ("/repos/{owner}/{repo}/languages", github_json.languages),
        ("/repos/{owner}/{repo}/git/ref/{ref}", github_json.git_ref),
        ("/repos/{owner}/{repo}/git/matching-refs/{ref}", lambda found: [github_json.git_ref(one) for one in found]),
        ("/repos/{owner}/{repo}/branches", lambda found: [github_json.branch(one) for one in found]),
        ("/search/repositories", lambda found: [github_json.suggestion(one) for one in found["items"]]),
        ("/repos/{owner}/{repo}/pulls/{pull_number}", lambda pull: github_json.commit(pull["head"]["sha"])),
    ],
)
def test_published_examples_can_be_read(template: str, read: Callable[[Any], object]) -> None:
    assert read(PATHS[template]["example"])
