"""What all tests share: the parts of the machine that they may need, and a fixed cast."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from accounts.services import tokens
from tests.cluster import programs
from tests.cluster.fixtures import control_plane, node
from tests.support.revocations import Listener
from workspaces.models import Repository, Workspace

__all__ = ["control_plane", "node"]  # Fixtures; imported here alone, or each import would start its own.

ROOT = Path(__file__).resolve().parents[1]
# How long an example takes says something of the machine, and nothing of what is tested.
hypothesis.settings.register_profile("slipway", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("slipway")
REQUIRED = {part.strip() for part in os.environ.get("SLIPWAY_TEST_REQUIRE", "").split(",") if part.strip()}


def _bwrap_works() -> bool:
    command = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-all", "true"]
    return bool(shutil.which("bwrap")) and subprocess.run(command, capture_output=True, check=False).returncode == 0


def chromium() -> str | None:
    """Where Chromium is."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def _unless(there: bool, cure: str) -> str | None:
    return None if there else cure


def _cluster(part: str, command: str) -> str | None:
    """The tests' clusters take minutes to build and to run: only who asks for them by name gets them."""
    if part not in REQUIRED:
        return f"it is left out unless asked for: `{command}`"
    if part == "cluster" and os.environ.get("SLIPWAY_TEST_KUBECONFIG"):
        return None
    return programs.missing({"cluster": "control-plane"}.get(part, part), may_build=True)


# What stands in the way of each part of the machine, and how to mend that; None where nothing does.
PARTS: dict[str, Callable[[], str | None]] = {
    "browser": lambda: _unless(chromium() is not None, "install Debian's chromium"),
    "postgres": lambda: _unless(any(Path("/usr/lib/postgresql").glob("*/bin/initdb")), "install Debian's postgresql"),
    "bwrap": lambda: _unless(_bwrap_works(), "install Debian's bubblewrap, and allow user namespaces"),
    "ide": lambda: _unless(any(ROOT.glob("var/ide/*/node_modules/code-server/out/node/entry.js")), "run `make setup`"),
    "cluster": lambda: _cluster("cluster", "make test-cluster"),
    "node": lambda: _cluster("node", "make test-node"),
    "scale": lambda: _cluster("scale", "make test-cluster"),
    "registry": lambda: _cluster("registry", "make test-cluster"),
}


@functools.cache
def _missing(part: str) -> str | None:
    return PARTS[part]()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what the machine cannot do, with one line that says what to install; fail it where it is required."""
    for part in PARTS:
        if item.get_closest_marker(part) and (cure := _missing(part)):
            message = f"{part}: {cure}"
            if part in REQUIRED:
                pytest.fail(message, pytrace=False)
            pytest.skip(message)


@pytest.fixture(scope="session")
def valkey() -> Iterator[Any]:
    """A real Valkey where the settings expect it."""
    from django.conf import settings  # noqa: PLC0415 - Settings are only there once Django is set up.

    from tests.support.valkey import ValkeyServer  # noqa: PLC0415

    run = settings.ENVIRONMENT.run
    run.mkdir(parents=True, exist_ok=True)
    with ValkeyServer(run) as server:
        yield server


@pytest.fixture(autouse=True)
def _clean_valkey(request: pytest.FixtureRequest) -> None:
    """Every test that touches the database finds Valkey running and empty."""
    if (
        "db" in request.fixturenames
        or "transactional_db" in request.fixturenames
        or request.node.get_closest_marker("django_db")
    ):
        server = request.getfixturevalue("valkey")
        with server.client() as client:
            client.flushall()


def _user(name: str, **fields: Any) -> User:
    return User.objects.create_user(
        username=name, email=f"{name}@example.com", password=f"{name} has a long password", **fields
    )


@pytest.fixture
def owner(db: None) -> User:
    """Has workspaces."""
    return _user("owner", display_name="Olga Owner")


@pytest.fixture
def member(db: None) -> User:
    """Somebody in the same company."""
    return _user("member")


@pytest.fixture
def outsider(db: None) -> User:
    """Somebody who must see nothing."""
    return _user("outsider")


@pytest.fixture
def admin(db: None) -> User:
    """The platform's administrator."""
    return _user("boss", is_staff=True, is_superuser=True)


@pytest.fixture
def listener(transactional_db: None) -> Iterator[Listener]:
    """Hears what gateways are told."""
    made = Listener()
    yield made
    made.pubsub.close()


@pytest.fixture
def owner_client(owner: User) -> Client:
    """The owner's browser."""
    client = Client()
    client.force_login(owner, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def bearer() -> Callable[..., dict[str, str]]:
    """Headers with a fresh token of a user."""

    def make(user: User, *scopes: str) -> dict[str, str]:
        _, secret = tokens.create_token(
            user=user, name="test", scopes=scopes or ("workspaces",), life=timedelta(days=1), now=timezone.now()
        )
        return {"Authorization": f"Bearer {secret}"}

    return make


@pytest.fixture
def repository(db: None) -> Repository:
    """A repository whose host was asked."""
    return Repository.objects.create(
        provider="git",
        full_name="acme/rocket",
        clone_url="https://git.example.com/acme/rocket.git",
        default_branch="main",
        head_commit="a" * 40,
        fetched_at=timezone.now(),
    )


@pytest.fixture
def workspace_factory(repository: Repository) -> Callable[..., Workspace]:
    """Rows as they would stand in the database."""

    def make(owner: User, *, slug: str = "rocket-bcdfg", **fields: Any) -> Workspace:
        now = timezone.now()
        values = {"name": slug, "ref": "refs/heads/main", "branch": "main", "wanted_at": now, "progress_at": now}
        return Workspace.objects.create(owner=owner, repository=repository, slug=slug, **{**values, **fields})

    return make
