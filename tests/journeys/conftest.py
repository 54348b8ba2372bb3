"""One platform and one git server for all journeys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.support.browser import launched
from tests.support.git_http import GitServer
from tests.support.github import GitHubServer
from tests.support.platform import Platform

GITHUB_TOKEN = "ghp_of-the-installation"

DEVCONTAINER = """{
  // JSON with comments, as people write it
  "postCreateCommand": "echo prepared > prepared.txt",
  "containerEnv": {"FROM_DEVCONTAINER": "yes"},
  "customizations": {"vscode": {"settings": {"editor.fontSize": 15,},},},
}
"""


@pytest.fixture(scope="package")
def git_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    """A git server with a repository."""
    root: Path = tmp_path_factory.mktemp("git")
    with GitServer(root) as server:
        server.create_repository(
            "acme/rocket",
            {
                "README.md": "# Rocket\n",
                "app.py": "print('lift-off')\n",
                ".devcontainer/devcontainer.json": DEVCONTAINER,
            },
        )
        yield server


@pytest.fixture(scope="package")
def rocket(git_server: GitServer) -> str:
    """Where the repository is."""
    return f"{git_server.url}/acme/rocket.git"


@pytest.fixture(scope="package")
def github() -> Iterator[GitHubServer]:
    """A server that speaks GitHub's protocol, and knows one token."""
    with GitHubServer() as server:
        server.add_token(GITHUB_TOKEN)
        yield server


@pytest.fixture(scope="package")
def platform(github: GitHubServer) -> Iterator[Platform]:
    """The platform, running."""
    running = Platform(
        SLIPWAY_STOP_GRACE="3",
        SLIPWAY_ALLOW_FILE_REPOSITORIES="true",
        SLIPWAY_GITHUB_URL=github.url,
        SLIPWAY_GITHUB_API_URL=github.api_url,
        SLIPWAY_GITHUB_TOKEN=GITHUB_TOKEN,
    )
    try:
        running.start()
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    with launched() as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh window."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield context.new_page()
    context.close()
