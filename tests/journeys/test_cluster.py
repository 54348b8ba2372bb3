"""The main job in a cluster: a pod on a real node, VS Code through the gateway, and files that outlive the pod."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.cluster import images, network, programs
from tests.cluster.node import Node
from tests.support.browser import expect, picture
from tests.support.cluster_platform import ClusterPlatform
from tests.support.git_http import GitServer
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.node,
    pytest.mark.browser,
    pytest.mark.timeout(900),
    pytest.mark.allow_hosts(["127.0.0.1", network.MACHINE, network.PODS]),
]
APP_ROW = '.explorer-folders-view .monaco-list-row:has-text("app.py")'
PATIENCE = 180
SLOW = "registry.example.com"


@pytest.fixture(scope="module")
def programs_image(node: Node) -> None:
    """The agent and the editor, for any image."""
    node.load_image(images.ide_archive(programs.cache_folder().parent, programs.path("kubectl")))


@pytest.fixture(scope="module")
def repository(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a repository is, as pods and the platform reach it."""
    with GitServer(tmp_path_factory.mktemp("git"), network.MACHINE) as server:
        yield server.create_repository("acme/rocket", {"app.py": "print('lift-off')\n"}).url


@pytest.fixture
def platform(
    request: pytest.FixtureRequest, node: Node, programs_image: None, tmp_path: Path
) -> Iterator[ClusterPlatform]:
    """The platform; a test may choose how the editor gets into a pod, and whether pods have users of their own."""
    options: dict[str, Any] = getattr(request, "param", {"delivery": "image_volume"})
    running = ClusterPlatform(node, tmp_path, **options)
    try:
        running.start()
        yield running
    finally:
        running.close()


@pytest.mark.parametrize(
    "platform",
    [{"delivery": "init", "host_users": False}, {"delivery": "image_volume"}],
    ids=["copied, with users of its own", "mounted"],
    indirect=True,
)
def test_from_the_api_to_vs_code_and_back(platform: ClusterPlatform, repository: str, page: Page) -> None:
    workspace = platform.create(repository)
    slug = workspace["slug"]
    running = platform.wait_for(workspace["id"], "running", "failed", timeout=PATIENCE)
    assert running["state"] == "running", running["failure"]
    # The editor may be open a moment before the agent tells that its last step is over.
    steps = eventually(lambda: platform.steps_done(workspace["id"]), what="every step done")
    assert {"scheduled", "volume", "image", "container", "content", "ide"} <= steps

    page.goto(platform.manage("sign_in_link"))
    page.goto(workspace["url"])
    page.locator(APP_ROW).dblclick(timeout=60_000)
    expect(page.locator(".monaco-editor .view-line").first).to_contain_text("lift-off")
    page.keyboard.press("Control+Backquote")
    terminal = page.locator(".terminal.xterm")
    terminal.wait_for()

    def typed() -> bool:
        # The shell's prompt may come later than the terminal's frame: what is typed too early is typed again.
        terminal.click()
        page.keyboard.type("id -u > typed.txt\n", delay=15)
        page.wait_for_timeout(1_500)
        return "1000" in platform.inside(slug, "cat ~/rocket/typed.txt 2>/dev/null || true")

    eventually(typed, timeout=60, what="the terminal writes a file")

    assert platform.api("POST", f"/workspaces/{workspace['id']}/stop")[0] in {200, 202}
    platform.wait_for(workspace["id"], "stopped", timeout=PATIENCE)
    assert platform.pods() == []
    page.goto(workspace["url"])
    page.wait_for_selector(APP_ROW, timeout=PATIENCE * 1000)
    assert "1000" in platform.inside(slug, "cat ~/rocket/typed.txt")
    [pod] = platform.pods()
    assert pod["metadata"]["labels"]["slipway.dev/run"] == "2"


@pytest.fixture
def slow_registry(node: Node) -> Iterator[str]:
    """A registry that takes connections and never answers."""
    with socket.create_server((network.MACHINE, 0)) as server:
        node.add_registry(SLOW, f"http://{network.MACHINE}:{server.getsockname()[1]}")
        yield SLOW


@pytest.mark.parametrize(
    "platform", [{"delivery": "image_volume", "image": f"{SLOW}/workspace:1"}], ids=["fetched"], indirect=True
)
def test_a_start_that_waits_says_so_in_the_clusters_words(
    platform: ClusterPlatform, slow_registry: str, repository: str, page: Page
) -> None:
    page.goto(platform.manage("sign_in_link"))
    slug = platform.create(repository, name="Moon shot")["slug"]
    page.goto(f"{platform.url}/workspaces/{slug}/start")
    expect(page.get_by_text(f'Pulling image "{slow_registry}/workspace:1"').first).to_be_visible(timeout=60_000)
    picture(page, "start-cluster")


def test_nothing_is_lost_whatever_dies(platform: ClusterPlatform, repository: str) -> None:
    workspace = platform.create(repository)
    key, slug = workspace["id"], workspace["slug"]
    platform.kill("worker")
    platform.kill("operator")
    assert platform.wait_for(key, "running", "failed", timeout=PATIENCE)["state"] == "running"
    [pod] = platform.pods()
    platform.inside(slug, "echo mine > ~/rocket/work.txt")

    # Taken away by hand: it is started again.
    name = pod["metadata"]["name"]
    platform.node.control_plane.kubectl("delete", "pod", name, "--namespace", name, "--wait=false")
    eventually(lambda: _run_of(platform) == "2", timeout=PATIENCE, every=0.5, what="it is started again")
    assert platform.wait_for(key, "running", "failed", timeout=PATIENCE)["state"] == "running"
    assert platform.inside(slug, "cat ~/rocket/work.txt") == "mine\n"

    # A cluster that does not answer has stopped nothing.
    platform.node.control_plane.stop_api()
    try:
        platform.manage("shell", "-c", f"from workspaces.tasks import reconcile; reconcile('{key}')")
        assert platform.api("GET", f"/workspaces/{key}")[1]["state"] == "running"
    finally:
        platform.node.control_plane.start_api()
    assert _run_of(platform) == "2"

    platform.api("POST", f"/workspaces/{key}/stop")
    platform.kill("worker")
    platform.wait_for(key, "stopped", timeout=PATIENCE)
    assert platform.pods() == []
    platform.api("DELETE", f"/workspaces/{key}")
    platform.kill("worker")
    platform.wait_for(key, "deleted", timeout=PATIENCE)
    platform.api("POST", f"/workspaces/{key}/restore")
    platform.wait_for(key, "stopped", timeout=PATIENCE)
    platform.api("POST", f"/workspaces/{key}/start")
    assert platform.wait_for(key, "running", "failed", timeout=PATIENCE)["state"] == "running"
    assert platform.inside(slug, "cat ~/rocket/work.txt") == "mine\n"


def _run_of(platform: ClusterPlatform) -> str:
    """The run that the cluster has, where there is exactly one pod."""
    numbers = [pod["metadata"]["labels"]["slipway.dev/run"] for pod in platform.pods()]
    return numbers[0] if len(numbers) == 1 else ""
