"""A node pulls from the registries that it was told, and from no other."""

from __future__ import annotations

import hashlib
import http.server
import json
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import images, manifests, network
from tests.cluster.node import Node
from tests.support.waiting import eventually

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
TYPES = {"config": "application/vnd.oci.image.config.v1+json", "layer": "application/vnd.oci.image.layer.v1.tar"}


class Registry(http.server.BaseHTTPRequestHandler):
    """As much of a registry as a pull needs: content by digest, and one manifest by any tag."""

    def __init__(self, blobs: dict[str, bytes], manifest: bytes, *arguments: Any) -> None:
        self.blobs, self.manifest = blobs, manifest
        super().__init__(*arguments)

    def do_GET(self) -> None:
        asked = self.path.split("?", maxsplit=1)[0].rsplit("/", 1)[-1]
        content = self.manifest if "/manifests/" in self.path else self.blobs.get(asked, b"")
        self.send_response(200 if content else 404)
        self.send_header("Content-Type", MANIFEST if content is self.manifest else "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *arguments: Any) -> None:
        """Not into the tests' output."""


def blobs_of(archive: Path) -> tuple[dict[str, bytes], bytes]:
    """What a registry would hold of an image with one layer: its content by digest, and its manifest."""
    with tarfile.open(archive) as tar:
        content = {info.name: tar.extractfile(info).read() for info in tar if info.isfile()}  # type: ignore[union-attr]
    described = json.loads(content["manifest.json"])[0]
    blobs, entries = {}, {}
    for kind, name in (("config", described["Config"]), ("layer", described["Layers"][0])):
        digest = f"sha256:{hashlib.sha256(content[name]).hexdigest()}"
        blobs[digest] = content[name]
        entries[kind] = {"mediaType": TYPES[kind], "digest": digest, "size": len(content[name])}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": entries["config"], "layers": [entries["layer"]]}
    return blobs, json.dumps(manifest).encode()


@pytest.fixture
def registry(node: Node, tmp_path: Path) -> Iterator[str]:
    """Serves one image on the node's link; its address."""
    archive = images.write_image(tmp_path / "data.tar", "data:1", images.from_files({"/word": b"pulled"}))
    handler = partial(Registry, *blobs_of(archive))
    with http.server.ThreadingHTTPServer((network.MACHINE, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{network.MACHINE}:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_image_is_pulled_from_a_registry_that_was_added(node: Node, registry: str) -> None:
    cluster = node.control_plane
    node.add_registry("registry.test", registry)
    cluster.apply(manifests.namespace("pulls"))
    data = {"/data": {"image": {"reference": "registry.test/data:1", "pullPolicy": "Always"}}}
    cluster.apply(manifests.pod("known", "pulls", volumes=data))
    eventually(lambda: manifests.is_ready(cluster.get("pod", "known", "pulls")), timeout=60, every=0.1)
    assert cluster.kubectl("exec", "--namespace", "pulls", "known", "--", "cat", "/data/word") == "pulled"

    elsewhere = {"/data": {"image": {"reference": "unknown.test/data:1", "pullPolicy": "Always"}}}
    cluster.apply(manifests.pod("unknown", "pulls", volumes=elsewhere))

    def events() -> str:
        query = ("--namespace", "pulls", "--field-selector", "involvedObject.name=unknown")
        return cluster.kubectl("get", "events", *query, "--output", "jsonpath={.items[*].message}")

    eventually(lambda: "connection refused" in events(), timeout=60, every=0.2, what="the pull fails at once")
    cluster.kubectl("delete", "namespace", "pulls", "--wait=false")
