"""A node that runs nothing: it is bound to by hand, and answers only what pods have written."""

from __future__ import annotations

import http.server
import json
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.control_plane import LOOPBACK, ControlPlane

NODE = "writes-logs"


class _Kubelet(http.server.BaseHTTPRequestHandler):
    """The one address of a kubelet's that the API server asks for logs."""

    def do_GET(self) -> None:
        found = self.path.startswith("/containerLogs/")
        body = b"hello from the pod\n" if found else b""
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - The library's name.
        pass


@contextmanager
def node_with_logs(control_plane: ControlPlane) -> Iterator[str]:
    """The node's name, while it answers."""
    with tempfile.TemporaryDirectory(dir=control_plane.folder) as folder:
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trust.load_cert_chain(*control_plane.issue(NODE, hosts=[LOOPBACK]).write(Path(folder), "kubelet"))
        server = http.server.ThreadingHTTPServer((LOOPBACK, 0), _Kubelet)
        server.socket = trust.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        status = {
            "addresses": [{"type": "InternalIP", "address": LOOPBACK}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": server.server_port}},
        }
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}, "status": status}
        control_plane.kubectl("create", "--filename", "-", text=json.dumps(node))
        try:
            yield NODE
        finally:
            control_plane.kubectl("delete", "node", NODE)
            server.shutdown()
            server.server_close()
