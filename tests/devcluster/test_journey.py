"""The whole platform with a dev cluster: a command of a repository uses kubectl, and a stop ends its access."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster import programs
from tests.devcluster.conftest import DevStage
from tests.support.git_repos import create
from tests.support.platform import Platform
from tests.support.waiting import eventually
from workspaces.runtime.devcluster import Grant

pytestmark = [pytest.mark.cluster, pytest.mark.ide, pytest.mark.timeout(300)]

COMMAND = (
    'export PATH="{folder}:$PATH"; kubectl create configmap from-inside; kubectl get configmaps > found.txt;'
    " kubectl get nodes > nodes.txt 2>&1; echo done > done.txt"
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that a workspace may read, with a repository, and with a kubectl where the machine has none."""
    base = Path(tempfile.mkdtemp(prefix="sj-"))
    base.chmod(0o755)
    repository = base / "app"
    command = json.dumps({"postCreateCommand": COMMAND.format(folder=repository)})
    create(repository, {".devcontainer.json": command}, branches={})
    if programs.path("kubectl").exists():
        shutil.copy(programs.path("kubectl"), repository / "kubectl")
    yield base
    shutil.rmtree(base)


@pytest.fixture
def platform(dev: DevStage, tmp_path: Path) -> Iterator[Platform]:
    options = tmp_path / "dev-cluster.yaml"
    options.write_text(yaml.safe_dump(dev.options))
    with Platform(SLIPWAY_ALLOW_FILE_REPOSITORIES="true", SLIPWAY_DEV_CLUSTER_OPTIONS=str(options)) as running:
        yield running


def test_kubectl_works_until_the_stop(dev: DevStage, platform: Platform, folder: Path) -> None:
    made = platform.create(f"file://{folder}/app")
    running = platform.wait_for(made["id"], "running", "failed")
    assert running["state"] == "running", running["failure"]
    slug = running["slug"]
    checkout = platform.home / "workspaces" / slug / "home" / "app"
    eventually(lambda: (checkout / "done.txt").exists(), timeout=60, every=0.2)
    assert "from-inside" in (checkout / "found.txt").read_text()
    assert "forbidden" in (checkout / "nodes.txt").read_text().lower()
    assert dev.adapter().grants() == [Grant(slug, 1)]
    platform.api("POST", f"/workspaces/{made['id']}/stop")
    platform.wait_for(made["id"], "stopped")
    eventually(lambda: dev.adapter().grants() == [], timeout=30, every=0.2)
    assert "from-inside" in dev.names("configmaps", slug)
