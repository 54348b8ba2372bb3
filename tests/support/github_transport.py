"""The HTTP side of `tests.support.github`: connections, faults on the wire, and git's smart protocol."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
import socket
import subprocess
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from typing_extensions import override

from tests.support.github_answers import Repository

Fault = Literal["error", "unavailable", "stall", "drop", "garbage", "wrong_shape", "huge", "deep", "elsewhere", "loop"]

PREFIX = "/api/v3"


@dataclasses.dataclass(frozen=True)
class Seen:
    """A request and what it was answered."""

    path: str
    status: int
    headers: Mapping[str, str]


@dataclasses.dataclass
class Reply:
    status: int
    body: Any
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


class Site(Protocol):
    """What the HTTP side asks `GitHubServer`."""

    seen: list[Seen]

    @property
    def url(self) -> str: ...
    def find(self, full_name: str) -> Repository | None: ...
    def token_is_valid(self, token: str) -> bool: ...
    def take_fault(self, path: str) -> Fault | None: ...
    def stall(self) -> None: ...
    def api(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply: ...
    def limit_headers(self) -> dict[str, str]: ...


class Listener(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, github: Site) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.github = github
        self._open: set[socket.socket] = set()

    @override
    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    @override
    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up in the middle are part of the tests."""

    def close_connections(self) -> None:
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def encode(body: Any) -> bytes:
    if body is None:
        return b""
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "github.com"
    # Head and body are two writes; without this the second waits for the client's delayed acknowledgement.
    disable_nagle_algorithm = True

    @property
    def _github(self) -> Site:
        assert isinstance(self.server, Listener)
        return self.server.github

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Tests have `seen` instead."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if not parts.path.startswith(f"{PREFIX}/"):
            self._git(parts.path, parts.query)
            return
        path = parts.path.removeprefix(PREFIX)
        fault = self._github.take_fault(path)
        if fault and fault != "huge":
            self._github.seen.append(Seen(path, 0, dict(self.headers)))
            self._fault(fault)
            return
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        reply = self._github.api(unquote(path), query, dict(self.headers))
        self._github.seen.append(Seen(path, reply.status, dict(self.headers)))
        padding = b" " * (3 * 1024 * 1024) if fault == "huge" else b""
        self._send(reply.status, encode(reply.body) + padding, {**self._github.limit_headers(), **reply.headers})

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        self._git(parts.path, parts.query)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json; charset=utf-8", **headers}.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _fault(self, fault: Fault) -> None:
        if fault == "stall":
            self._github.stall()
        if fault in {"stall", "drop"}:
            self.close_connection = True
            return
        away = {"elsewhere": "http://localhost:1/repos/x/y", "loop": f"{self._github.url}{self.path}"}.get(fault)
        status = {"error": 500, "unavailable": 503}.get(fault, 301 if away else 200)
        body = {
            "garbage": b"<html>Welcome to the hotel network</html>",
            "wrong_shape": b'{"full_name": 7, "items": {}, "object": []}',
            "deep": b"[" * 200_000,
        }.get(fault, b"{}")
        self._send(status, body, {"Location": away} if away else {})

    def _git(self, path: str, query: str) -> None:
        match = re.fullmatch(r"/([^/]+/[^/]+?)(?:\.git)?/(info/refs|git-upload-pack)", unquote(path))
        repo = self._github.find(match[1]) if match else None
        if match is None or repo is None or repo.git_dir is None:
            self._send(404, b"Not Found", {})
            return
        if repo.private and not self._github.token_is_valid(_basic_password(self.headers.get("Authorization", ""))):
            self._send(401, b"", {"WWW-Authenticate": 'Basic realm="GitHub"'})
            return
        length = int(self.headers.get("Content-Length") or 0)
        environment = {
            "PATH": os.defpath,
            "GIT_PROJECT_ROOT": str(repo.git_dir),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "PATH_INFO": f"/{match[2]}",
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "CONTENT_LENGTH": str(length),
        }
        done = subprocess.run(
            ["git", "http-backend"],
            env=environment,
            input=self.rfile.read(length),
            capture_output=True,
            check=False,
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        self._send(int(headers.pop("Status", "200").split()[0]), body, headers)


def _basic_password(header: str) -> str:
    encoded = header.removeprefix("Basic ")
    try:
        return base64.b64decode(encoded).decode().partition(":")[2]
    except ValueError:
        return ""
