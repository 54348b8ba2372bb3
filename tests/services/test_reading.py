"""What was written by others is read without stumbling."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from django.utils import timezone

from accounts.models import User
from workspaces import selectors
from workspaces.models import Condition, Event, Workspace
from workspaces.repositories.port import RepositoryMetadata
from workspaces.services.create import make_slug
from workspaces.services.entering import local_path, parse_label
from workspaces.services.repositories import remember

Factory = Callable[..., Workspace]


@pytest.mark.parametrize(
    ("raw", "texts"),
    [
        (b"", []),
        (b"\n\n", []),
        (b'{"t": "x", "source": "clone", "level": "info", "text": "a"}\n', ["a"]),
        (
            '{"text": "one\u2028line\u0085of \x0btext"}\n'.replace("\x0b", "\\u000b").encode(),
            ["one\u2028line\u0085of \x0btext"],
        ),
        (b"Traceback: what no agent wrote\n", ["Traceback: what no agent wrote"]),
        (b'{"text": "\\ud800"}\n', ["?"]),
        (b'{"text": "x", "t": NaN, "source": {"a": [1]}, "level": null}\n', ["x"]),
        (b"\xff\xfe\n", ["\ufffd\ufffd"]),
        (b"[" * 20_000, ["[" * 20_000]),
        (b'{"text": 7}\n["text"]\n', ['{"text": 7}', '["text"]']),
    ],
)
def test_log_lines(raw: bytes, texts: list[str]) -> None:
    lines = selectors.log_lines(raw)
    assert [line["text"] for line in lines] == texts
    json.dumps(lines, allow_nan=False, ensure_ascii=False).encode()


def _metadata(**changes: object) -> RepositoryMetadata:
    values: dict[str, object] = {
        "provider": "github",
        "external_id": "17",
        "full_name": "acme/rocket",
        "clone_url": "https://github.com/acme/rocket.git",
        "web_url": "https://github.com/acme/rocket",
        "default_branch": "main",
        "visibility": "public",
        "description": "x",
        "languages": {"Python": 1},
        "size_kb": 1,
        "head_commit": "a" * 40,
    }
    return RepositoryMetadata(**{**values, **changes})  # type: ignore[arg-type]  # A table of changes.


@pytest.mark.django_db
def test_a_renamed_repository_keeps_its_row() -> None:
    now = timezone.now()
    first = remember(_metadata(), now=now)
    renamed = _metadata(full_name="acme/shuttle", clone_url="https://github.com/acme/shuttle.git")
    second = remember(renamed, now=now)
    assert (second.pk, second.full_name) == (first.pk, "acme/shuttle")


@pytest.mark.django_db
def test_long_addresses_that_begin_alike_are_different_repositories() -> None:
    urls = [f"https://git.example.com/{'x' * 250}/{name}.git" for name in "ab"]
    rows = [remember(_metadata(provider="git", external_id=url, clone_url=url), now=timezone.now()) for url in urls]
    assert [row.clone_url for row in rows] == urls
    assert rows[0].pk != rows[1].pk


@pytest.mark.parametrize(
    ("name", "begin"),
    [
        ("Rocket", "rocket-"),
        ("3000 ports", "ports-"),
        ("🚀", "fallback-"),
        ("日本", "fallback-"),
        ("-- x --", "x-"),
        ("a" * 300, "a" * 32 + "-"),
        ("a" * 31 + "-b", "a" * 31 + "-"),
    ],
)
def test_slugs_are_host_labels(name: str, begin: str) -> None:
    slug = make_slug(name, fallback="fallback")
    assert slug.startswith(begin)
    assert parse_label(slug) == slug
    assert parse_label(f"3000-{slug}") == slug
    assert len(slug) <= 40


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/x?y=1", "/x?y=1"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/a\nb", "/"),
        ("/\x00", "/"),
        ("", "/"),
        ("/" + "a" * 5000, "/"),
    ],
)
def test_nobody_is_sent_elsewhere(path: str, kept: str) -> None:
    assert local_path(path) == kept


@pytest.mark.django_db
def test_steps_are_those_of_the_present_run_in_order(owner: User, workspace_factory: Factory) -> None:
    workspace = workspace_factory(owner, run=2)
    for run in (1, 2):
        for kind in ("ide", "content", "queued"):
            Condition.objects.create(workspace=workspace, run=run, type=kind, status="done")
    assert [(row.run, row.type) for row in selectors.conditions_of(workspace)] == [
        (2, "queued"),
        (2, "content"),
        (2, "ide"),
    ]
    Event.objects.create(workspace=workspace, kind="notice", generation=1)
    assert len(selectors.events_of(workspace)) == 1
