"""The whole platform on this machine, with its workspaces as pods on a real node."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import yaml
from typing_extensions import override

from tests.cluster import images, network
from tests.cluster.node import Node
from tests.support.platform import Platform, free_port


class ClusterPlatform(Platform):
    """`manage.py up` for workspaces in a cluster.

    Args:
        node: where they run; its images must be loaded.
        folder: for the options' file.
        options: of the runtime, beside those that follow from the node.

    Attributes:
        tag: the installation's name, in the labels and names of everything that it has in the cluster.
    """

    def __init__(self, node: Node, folder: Path, **options: Any) -> None:
        self.node = node
        self.tag = f"t{secrets.token_hex(4)}"
        port = free_port()
        here = {"networks": [f"{network.MACHINE}/32"]}
        chosen = {
            "kubeconfig": str(node.control_plane.kubeconfig),
            "instance": self.tag,
            "prefix": f"{self.tag}-",
            "image": images.WORKSPACE,
            "ide_image": images.IDE,
            "platform_url": f"http://{network.MACHINE}:{port}",
            "gateway": here,
            "platform": here,
            # The git server.
            "allowed": here["networks"],
            "closed": [network.PODS, network.SERVICES],
            "volume_bytes": 2**30,
            **options,
        }
        path = folder / f"{self.tag}.yaml"
        path.write_text(yaml.safe_dump(chosen))
        super().__init__(
            SLIPWAY_RUNTIME="k8s",
            SLIPWAY_KUBERNETES_OPTIONS=str(path),
            SLIPWAY_AGENTS_LISTEN=f"{network.MACHINE}:{port}",
            SLIPWAY_OPERATOR_LISTEN=f"127.0.0.1:{free_port()}",
        )

    def steps_done(self, workspace_id: str) -> set[str]:
        """The steps of its start, once all are done; before that none."""
        steps = self.api("GET", f"/workspaces/{workspace_id}")[1]["conditions"]
        return {step["type"] for step in steps} if all(step["status"] == "done" for step in steps) else set()

    def inside(self, slug: str, command: str) -> str:
        """What a shell in the workspace's pod prints."""
        name = f"{self.tag}-{slug}"
        return self.node.control_plane.kubectl("exec", name, "--namespace", name, "--", "sh", "-c", command)

    def pods(self) -> list[dict[str, Any]]:
        """All pods of this platform's workspaces."""
        chosen = f"slipway.dev/instance={self.tag}"
        found = self.node.control_plane.kubectl(
            "get", "pods", "--all-namespaces", "--selector", chosen, "--output", "json"
        )
        return list(json.loads(found)["items"])

    @override
    def close(self) -> None:
        """End the workspaces, the platform, and what is left of them in the cluster."""
        super().close()
        self.node.control_plane.kubectl(
            "delete", "namespace", "--selector", f"slipway.dev/instance={self.tag}", "--wait=false"
        )
