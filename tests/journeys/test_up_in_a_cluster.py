"""`manage.py up` on a developer's machine, with workspaces in a cluster."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import pytest

from tests.cluster.access import Cluster
from tests.runtime.k8s.crew import get
from tests.support.git_http import GitServer
from tests.support.platform import Platform, free_port
from tests.support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]


def test_a_pod_that_vanishes_is_followed_by_the_next_one(
    control_plane: Cluster, git_server: GitServer, rocket: str, tmp_path: Path
) -> None:
    tag, port = f"t{secrets.token_hex(4)}", free_port()
    options = tmp_path / "options.yaml"
    values = {
        "kubeconfig": str(control_plane.kubeconfig),
        "image": "local.test/workspace:1",
        "instance": tag,
        "prefix": f"{tag}-",
        "gateway": {"networks": ["10.9.9.9/32"]},
        "platform": {"networks": ["10.9.9.9/32"]},
    }
    options.write_text(json.dumps(values), encoding="utf-8")
    platform = Platform(
        SLIPWAY_RUNTIME="k8s",
        SLIPWAY_KUBERNETES_OPTIONS=str(options),
        SLIPWAY_OPERATOR_LISTEN=f"127.0.0.1:{port}",
    )
    try:
        platform.start()
        eventually(lambda: get(port, "/readyz")[0] == 200 and " leads\n" in get(port, "/readyz")[1], timeout=60)
        made = platform.create(rocket)
        name = f"{tag}-{made['slug']}"
        first = eventually(lambda: control_plane.get("pod", name, name), timeout=60, every=0.2)
        control_plane.kubectl("delete", "pod", name, "--namespace", name, "--grace-period", "0", "--force")
        eventually(
            lambda: (
                control_plane.get("pod", name, name).get("metadata", {}).get("uid", first["metadata"]["uid"])
                != first["metadata"]["uid"]
            ),
            timeout=60,
            every=0.2,
        )
        assert "slipway_operator_nudges_total" in get(port, "/metrics")[1]
        platform.kill("operator")
        eventually(lambda: get(port, "/readyz")[0] == 200, timeout=60)
    finally:
        platform.stop()
        assert platform.leftovers() == []
        platform.close()
        control_plane.kubectl("delete", "namespace", "--selector", f"slipway.dev/instance={tag}", "--wait=false")
