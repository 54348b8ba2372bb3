"""A real server in code-server's place: takes its options, answers its page on the Unix socket.

It stands in where the tests are about the agent's supervision; `node` tests use code-server itself.
"""

from __future__ import annotations

import os
import socketserver
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from typing_extensions import override


def refuses() -> bool:
    """Whether the file that says so is there; each request is counted in it."""
    path = Path(os.environ.get("STAND_IN_REFUSES", "/nonexistent"))
    if not path.is_file():
        return False
    with path.open("a") as file:
        file.write("x")
    return True


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.path.startswith("/?folder=")
        self.send_response(500 if refuses() else 200 if found else 404)
        self.end_headers()
        self.wfile.write(b"editor")

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    @override
    def get_request(self) -> tuple[Any, Any]:
        request, _ = super().get_request()
        return request, ("local", 0)


def option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


def main() -> None:
    if "--install-extension" in sys.argv:
        target = option("--install-extension")
        sys.stdout.write(f"installed {target}\n")
        sys.exit(1 if "broken" in target else 0)
    if os.environ.get("STAND_IN_FAILS"):
        sys.exit(3)
    path = Path(option("--socket"))
    path.unlink(missing_ok=True)
    with Server(str(path), Handler) as server:
        sys.stdout.write(f"serving, pid {os.getpid()}, proxy {os.environ.get('VSCODE_PROXY_URI')}\n")
        sys.stdout.write(f"opens {sys.argv[-1]}\n")
        sys.stdout.flush()
        server.serve_forever()


if __name__ == "__main__":
    main()
